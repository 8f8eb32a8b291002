// What SOCI calls a prefetch artifact: ranges of the spans of one zTOC, both ends within them. Its priorities are not used by anybody yet.
import { asObject, type JsonObject, parseJsonObject } from '../oci/json.ts';
import { formatError, IndexError, limitError } from './errors.ts';
import { encodeGoJson } from './go-json.ts';
import { rangesOf } from './peel-profile.ts';
import { maxProfileBytes, maxProfileSpans } from './profile-names.ts';

const version = '1.0';

/** `spans` in the order to fetch, at least one. */
export function writePrefetch(spans: readonly number[]): Uint8Array {
  const ranges = rangesOf(spans);
  return encodeGoJson({
    version,
    prefetch_spans: ranges.map(([start, end]) => ({ start_span: start, end_span: end - 1 })),
  });
}

/** The spans, each once, in their order. Errors: ERR_INDEX_FORMAT, ERR_INDEX_LIMIT, ERR_INDEX_VERSION. */
export function readPrefetch(bytes: Uint8Array, spanCount: number): number[] {
  if (bytes.length > maxProfileBytes) throw limitError('size of prefetch artifact', bytes.length, maxProfileBytes);
  const json = parse(() => parseJsonObject(bytes, 'prefetch artifact'));
  if (json['version'] !== version) {
    const shown = JSON.stringify(json['version'])?.slice(0, 100);
    throw new IndexError('ERR_INDEX_VERSION', `prefetch artifact has version ${shown}, this release reads ${version}`);
  }
  const ranges = json['prefetch_spans'];
  if (!Array.isArray(ranges)) throw formatError('prefetch artifact has no list of spans');
  const spans = new Set<number>();
  for (const range of ranges as unknown[]) {
    const { start_span: start, end_span: end } = parse(() => asObject(range, 'prefetch artifact range'));
    if (!isCount(start) || !isCount(end) || start > end || end >= spanCount)
      throw formatError(`prefetch artifact has a range that is none of the ${spanCount} spans`);
    for (let span = start; span <= end; span += 1) spans.add(span);
    if (spans.size > maxProfileSpans) throw limitError('spans of prefetch artifact', spans.size, maxProfileSpans);
  }
  return [...spans];
}

function parse(read: () => JsonObject): JsonObject {
  try {
    return read();
  } catch (cause) {
    throw new IndexError('ERR_INDEX_FORMAT', cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
