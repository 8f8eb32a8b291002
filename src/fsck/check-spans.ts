// The spans of one layer against their checksums, and the whole against the diffID.
import type { Span } from '../index/layer-index.ts';
import type { NodeIndex } from '../index/node-index.ts';
import { errorCode, errorMessage } from '../layer/errors.ts';
import type { LayerPaths } from '../layer/layer-paths.ts';
import { LayerCache } from '../native/layer-cache.ts';
import type { LayerCacheOptions } from '../native/layer-cache.ts';
import { digestAlgorithm, digestFromSha256 } from '../oci/digest.ts';
import type { Digest } from '../oci/digest.ts';
import type { LayerRow } from '../state/layers.ts';
import type { FsckDeps } from './check.ts';
import type { LayerCheckOptions } from './check-layer.ts';
import type { Finding } from './finding.ts';
import { mendLayer } from './mend-layer.ts';

export interface CheckedLayer {
  readonly layer: Digest;
  readonly paths: LayerPaths;
  readonly index: NodeIndex;
  readonly row: LayerRow | undefined;
  readonly options: LayerCacheOptions;
}

export type SpanFinding = Pick<Finding, 'what' | 'repaired' | 'how'>;

const shownSpans = 8;

/** What is wrong. With `repair` it is taken out, and of a layer that was complete fetched again. Errors: errno codes; the signal's reason. */
export async function checkSpans(
  deps: FsckDeps,
  checked: CheckedLayer,
  options: LayerCheckOptions,
): Promise<SpanFinding[]> {
  const { repair, signal } = options;
  const cache = open(checked, { repair });
  if (cache === undefined) return [];
  try {
    const wasComplete = cache.complete;
    const { wrong, unreadable } = await badSpans(cache, checked, options);
    if (repair) await cache.sync();
    const findings = [
      ...(wrong.length > 0 ? [spansText(wrong, checked, 'have wrong bytes')] : []),
      ...(unreadable.length > 0 ? [spansText(unreadable, checked, 'cannot be read from the disk')] : []),
    ];
    const isWhole = findings.length === 0 && wasComplete && options.whole;
    const differs = isWhole ? await otherDigest(cache, checked) : undefined;
    if (differs !== undefined) findings.push(differs);
    // Also what an earlier repair could not fetch.
    const isHalf = !wasComplete && cache.mending;
    if (isHalf) findings.push('spans of it are missing that were here');
    if (!repair || findings.length === 0) return findings.map((what) => ({ what, repaired: false, how: undefined }));
    if (differs !== undefined) deps.state.layers.markSuspect(checked.layer, differs);
    const needsMending = wasComplete || isHalf;
    const failure = differs ?? (needsMending ? await failureToMend(deps, checked, cache, signal) : undefined);
    const how = howText({ failure, isMended: needsMending });
    return findings.map((what) => ({ what, repaired: failure === undefined, how }));
  } finally {
    await cache.close();
  }
}

/** Undefined where its files say that nothing of it is here. */
function open({ options }: CheckedLayer, { repair }: { readonly repair: boolean }): LayerCache | undefined {
  try {
    return LayerCache.open({ ...options, readOnly: !repair });
  } catch (error) {
    if (!repair && ['ENOENT', 'ESTALE'].includes(errorCode(error) ?? '')) return undefined;
    throw error;
  }
}

interface BadSpans {
  readonly wrong: readonly number[];
  /** Where the disk gives others of the layer. */
  readonly unreadable: readonly number[];
}

/** With `repair` they are not present any more. Errors: errno codes of a disk that gives nothing of the layer; the signal's reason. */
async function badSpans(
  cache: LayerCache,
  { layer, index: { spans } }: CheckedLayer,
  { repair, pace, signal, onProgress }: LayerCheckOptions,
): Promise<BadSpans> {
  const wrong: number[] = [];
  const unreadable = new Map<number, unknown>();
  let readable = 0;
  for (let span = 0; span < spans.count; span += 1) {
    const { streamStart, streamEnd } = spans.span(span);
    if (cache.isPresent(span)) {
      await pace(streamEnd - streamStart, signal);
      try {
        if (!(await isRight(cache, span))) wrong.push(span);
        readable += 1;
      } catch (error) {
        if (errorCode(error) !== 'EIO') throw error;
        unreadable.set(span, error);
      }
    }
    onProgress?.({ what: layer.slice(0, 19), done: streamEnd, total: spans.streamSize });
  }
  // A disk that is away may come back with everything.
  const [error] = unreadable.values();
  if (readable === 0 && error !== undefined) throw error;
  for (const span of repair ? [...unreadable.keys()] : [])
    if (await isBack(cache, spans.span(span))) unreadable.delete(span);
  return { wrong, unreadable: [...unreadable.keys()] };
}

/** True too for one that was evicted meanwhile. */
async function isRight(cache: LayerCache, span: number): Promise<boolean> {
  try {
    return await cache.verify(span);
  } catch (error) {
    if (errorCode(error) === 'ENODATA') return true;
    throw error;
  }
}

/** A read that fails takes the span out: where it is written anew, the disk mostly gives it again. Errors: errno codes. */
async function isBack(cache: LayerCache, { index, streamStart, streamEnd }: Span): Promise<boolean> {
  try {
    await cache.read(streamStart, streamEnd - streamStart);
    return await isRight(cache, index);
  } catch (error) {
    if (errorCode(error) === 'EAGAIN') return false;
    throw error;
  }
}

/** Undefined when the stream is the one that the images name. */
async function otherDigest(cache: LayerCache, { row }: CheckedLayer): Promise<string | undefined> {
  if (row === undefined || digestAlgorithm(row.diffId) !== 'sha256') return undefined;
  try {
    const found = digestFromSha256(await cache.digest());
    return found === row.diffId ? undefined : `its stream is ${found}, and its images say ${row.diffId}`;
  } catch (error) {
    // Evicted or taken out by somebody else meanwhile.
    if (errorCode(error) === 'ENODATA') return undefined;
    throw error;
  }
}

async function failureToMend(
  deps: FsckDeps,
  checked: CheckedLayer,
  cache: LayerCache,
  signal: AbortSignal,
): Promise<string | undefined> {
  try {
    await mendLayer(deps, { ...checked, cache }, { signal });
    return undefined;
  } catch (error) {
    signal.throwIfAborted();
    return errorMessage(error);
  }
}

function spansText(found: readonly number[], { index }: CheckedLayer, what: string): string {
  const shown = found.slice(0, shownSpans).join(', ');
  const more = found.length > shownSpans ? `, and ${found.length - shownSpans} more` : '';
  return `${found.length} of ${index.spans.count} spans ${what} (${shown}${more})`;
}

/** Pages of files in mounts are copies of what was wrong: only the kernel can say when it reads them again. */
const memory = '; what was read of it before may stay in the memory of the kernel for a while';

function howText(o: { readonly failure: string | undefined; readonly isMended: boolean }): string {
  if (o.failure !== undefined) return `taken out, and not fetched again: ${o.failure}${memory}`;
  return `${o.isMended ? 'fetched again' : 'taken out, and fetched again when it is read'}${memory}`;
}
