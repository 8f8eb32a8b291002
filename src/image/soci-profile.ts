// What starts touch, said by a SOCI index: spans of whatever index they were recorded by become spans of its zTOCs.
import type { SpanTable } from '../index/layer-index.ts';
import { readPeelTable } from '../index/peel-table-reader.ts';
import type { SociLayer } from '../index/soci-index.ts';
import { sociIndexWithPrefetch } from '../index/soci-with-prefetch.ts';
import { readZtoc } from '../index/ztoc-reader.ts';
import type { Blob } from '../index/blob.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import type { IndexTable } from '../state/indexes.ts';
import type { ContentFetcher } from './content.ts';
import { readSmallBlob } from './content.ts';
import { ImageError } from './errors.ts';
import type { FoundIndex } from './found-index.ts';
import { readIndexOf } from './found-index.ts';
import { IndexFinder } from './index-finder.ts';
import { maxIndexBytes } from './offered-index.ts';
import type { Origin } from './origin.ts';
import type { Artifact } from './push-artifact.ts';
import type { ResolvedImage } from './resolve.ts';

export interface RecordedLayer {
  readonly layer: Digest;
  /** Whose spans are counted. */
  readonly index: Digest;
  /** In the order to fetch. */
  readonly spans: readonly number[];
}

export interface SociProfile {
  /** The index that it was made of. */
  readonly from: Digest;
  readonly artifact: Artifact & { readonly manifest: Blob };
}

interface Deps {
  readonly content: ContentFetcher;
  readonly indexes: IndexTable;
}

interface Place {
  readonly origin: Origin;
  readonly image: ResolvedImage;
  readonly signal: AbortSignal | undefined;
}

/**
 * The SOCI index of the image once more, with lists of what is to be fetched first. Errors: ERR_IMAGE_PROFILE when the image has no SOCI index, or
 * that none of the recorded layers; IndexError; RegistryError.
 */
export async function sociProfile(
  deps: Deps,
  place: Place,
  recorded: readonly RecordedLayer[],
  createdAt: number,
): Promise<SociProfile> {
  const { image } = place;
  const found = await findSoci(deps, place);
  const { bytes } = await deps.content.manifest(place.origin, found.digest, { signal: place.signal });
  const prefetch: { readonly layer: Digest; readonly spans: readonly number[] }[] = [];
  for (const entry of found.index.layers as readonly SociLayer[]) {
    const of = recorded.find(({ layer, spans }) => layer === entry.layer && spans.length > 0);
    if (of === undefined) continue;
    const spans = translate(await spansOf(deps, place, of), readZtoc(await blob(deps, place, entry.ztoc)).spans, of);
    if (spans.length > 0) prefetch.push({ layer: entry.layer, spans });
  }
  if (prefetch.length === 0)
    throw new ImageError(
      'ERR_IMAGE_PROFILE',
      `the SOCI index ${found.digest} of ${image.reference} has none of the layers that were recorded`,
    );
  const subject = image.descriptor;
  const { manifest, blobs } = sociIndexWithPrefetch({ index: bytes, subject, createdAt, prefetch });
  const ztocs = found.index.layers.map((layer) => (layer as SociLayer).ztoc);
  return { from: found.digest, artifact: { manifest, blobs: withLocal(deps.content, ztocs, blobs) } };
}

async function findSoci({ indexes, content }: Deps, { origin, image, signal }: Place): Promise<FoundIndex> {
  const discovery = await new IndexFinder(indexes, content).find(origin, image, {
    mode: 'auto',
    formats: { peel: false, soci_v1: true, soci_v2: true },
    onWarning: () => {},
    signal,
  });
  if (discovery.found === undefined)
    throw new ImageError(
      'ERR_IMAGE_PROFILE',
      `${image.reference} has no SOCI index that could say it: peel index create --format soci makes one`,
    );
  return discovery.found;
}

/** zTOCs that were made here may not be in the registry yet. */
async function* withLocal(
  content: ContentFetcher,
  ztocs: readonly Descriptor[],
  blobs: readonly Blob[],
): AsyncGenerator<Blob> {
  for (const descriptor of ztocs) {
    const local = await content.local(descriptor.digest);
    if (local !== undefined) yield { descriptor, bytes: local.bytes };
  }
  yield* blobs;
}

/** The table whose spans were counted. */
async function spansOf(deps: Deps, place: Place, { index, layer }: RecordedLayer): Promise<SpanTable> {
  const { bytes } = await deps.content.manifest(place.origin, index, { signal: place.signal });
  const content = readIndexOf(place.image, bytes);
  if (content.format === 'peel') {
    const entry = content.index.layers.find((each) => each.layer === layer);
    if (entry !== undefined) return readPeelTable(await blob(deps, place, entry.table)).spans;
  } else {
    const entry = content.index.layers.find((each) => each.layer === layer);
    if (entry !== undefined) return readZtoc(await blob(deps, place, entry.ztoc)).spans;
  }
  throw new ImageError('ERR_IMAGE_PROFILE', `index ${index}, by which layer ${layer} was recorded, has it no more`);
}

async function blob({ content }: Deps, { origin, signal }: Place, descriptor: Descriptor): Promise<Uint8Array> {
  const local = await content.local(descriptor.digest);
  return local?.bytes ?? (await readSmallBlob(origin, descriptor, maxIndexBytes, { signal }));
}

/** A zTOC may leave out the padding of the archive. */
function translate(from: SpanTable, to: SpanTable, { spans }: RecordedLayer): number[] {
  const translated = new Set<number>();
  for (const span of spans) {
    if (span >= from.count) continue;
    const { streamStart, streamEnd } = from.span(span);
    if (streamStart >= to.streamSize || streamEnd === streamStart) continue;
    const last = to.spanAt(Math.min(streamEnd, to.streamSize) - 1);
    for (let each = to.spanAt(streamStart); each <= last; each += 1) translated.add(each);
  }
  return [...translated];
}
