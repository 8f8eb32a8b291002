// The Range header of a request (RFC 9110 section 14.2).

export type RequestedRange = { readonly start: number; readonly end: number } | 'whole' | 'unsatisfiable';

/** Bytes [start, end) of `size`. Several ranges and other units are ignored, which the RFC allows: the whole is answered. */
export function parseRangeHeader(header: string | undefined, size: number): RequestedRange {
  if (header === undefined || !/^bytes=/i.test(header) || header.includes(',')) return 'whole';
  const match = /^(\d{0,16})-(\d{0,16})$/.exec(header.slice(6).trim());
  if (match === null || match[0] === '-') return 'unsatisfiable';
  const [, first = '', last = ''] = match;
  if (first === '') {
    const length = Math.min(Number(last), size);
    return length === 0 ? 'unsatisfiable' : { start: size - length, end: size };
  }
  const start = Number(first);
  const end = last === '' ? size : Math.min(Number(last) + 1, size);
  return start < end ? { start, end } : 'unsatisfiable';
}
