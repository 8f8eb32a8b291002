// Byte ranges (RFC 9110 section 14). Half open [start, end) inside, inclusive `bytes=a-b` on the wire.
import { RegistryError } from '../errors.ts';
import { printable } from './answer-error.ts';

export interface ContentRange {
  readonly start: number;
  readonly end: number;
  /** Size of the whole, undefined when the server does not tell. */
  readonly total: number | undefined;
}

export function formatRange(start: number, end: number | undefined): string {
  return `bytes=${start}-${end === undefined ? '' : end - 1}`;
}

/** Undefined for anything but `bytes a-b/total` and `bytes a-b/*`. */
export function parseContentRange(text: string | undefined): ContentRange | undefined {
  const match = /^bytes (\d{1,16})-(\d{1,16})\/(\d{1,16}|\*)$/.exec(text?.trim() ?? '');
  if (match === null) return undefined;
  const [, first = '', last = '', size = ''] = match;
  const range = { start: Number(first), end: Number(last) + 1, total: size === '*' ? undefined : Number(size) };
  const limit = range.total ?? Number.MAX_SAFE_INTEGER;
  return range.start < range.end && range.end <= limit && limit <= Number.MAX_SAFE_INTEGER ? range : undefined;
}

/**
 * Where the bytes of a 206 answer lie, which is exactly where they were asked for: the same start, and the end asked for or that of
 * the blob. Errors: RANGE_INVALID naming both ranges.
 */
export function checkPartialContent(
  what: string,
  asked: { readonly start: number; readonly end: number | undefined },
  answer: { readonly contentRange: string | undefined; readonly contentLength: string | undefined },
): ContentRange {
  const got = parseContentRange(answer.contentRange);
  const wanted = formatRange(asked.start, asked.end);
  const refuse = (why: string) =>
    new RegistryError('RANGE_INVALID', `${what}: asked for ${wanted}, ${why}`, { status: 206 });
  if (got === undefined)
    throw refuse(`answered without a valid content-range ("${printable(answer.contentRange ?? '')}")`);
  const wantedEnd = Math.min(asked.end ?? Number.MAX_SAFE_INTEGER, got.total ?? Number.MAX_SAFE_INTEGER);
  const endUnknown = asked.end === undefined && got.total === undefined;
  if (got.start !== asked.start || (!endUnknown && got.end !== wantedEnd)) {
    throw refuse(`answered with bytes ${got.start}-${got.end - 1} of ${got.total ?? 'an unknown size'}`);
  }
  if (answer.contentLength !== undefined && Number(answer.contentLength) !== got.end - got.start) {
    throw refuse(
      `answered with a content-length of ${answer.contentLength.slice(0, 20)} for ${got.end - got.start} bytes`,
    );
  }
  return got;
}
