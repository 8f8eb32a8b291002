// Number fields of tar headers: octal text, or GNU base-256 when the first byte has its high bit set.
const SPACE = 0x20;

/**
 * The number in `buffer[at, at + length)`; `undefined` when the field holds neither octal text nor a base-256 number that
 * a double represents exactly. Blank fields are 0, as every tar takes them.
 */
export function readNumber(buffer: Uint8Array, at: number, length: number): number | undefined {
  const first = buffer[at] as number;
  return (first & 0x80) === 0 ? readOctal(buffer, at, length) : readBase256(buffer, at, length);
}

function readOctal(buffer: Uint8Array, at: number, length: number): number | undefined {
  const end = at + length;
  let i = at;
  while (i < end && (buffer[i] === SPACE || buffer[i] === 0)) i++;
  let value = 0;
  for (; i < end; i++) {
    const byte = buffer[i] as number;
    if (byte === 0 || byte === SPACE) break;
    const digit = byte - 0x30;
    if (digit < 0 || digit > 7) return undefined;
    value = value * 8 + digit;
  }
  return value;
}

// Two's complement, big endian; the field's top bit is the marker and the next one the sign.
function readBase256(buffer: Uint8Array, at: number, length: number): number | undefined {
  const first = buffer[at] as number;
  const invert = (first & 0x40) === 0 ? 0 : 0xff;
  let value = (first ^ invert) & 0x7f;
  for (let i = at + 1; i < at + length; i++) {
    value = value * 256 + ((buffer[i] as number) ^ invert);
    if (value > Number.MAX_SAFE_INTEGER) return undefined;
  }
  return invert === 0 ? value : -value - 1;
}

/** Writes `value` as NUL-terminated octal; false (nothing written) when it is negative, fractional or too long. */
export function writeOctal(buffer: Buffer, at: number, length: number, value: number): boolean {
  if (!Number.isSafeInteger(value) || value < 0) return false;
  const text = value.toString(8);
  if (text.length >= length) return false;
  buffer.write(text.padStart(length - 1, '0'), at, 'latin1');
  return true;
}
