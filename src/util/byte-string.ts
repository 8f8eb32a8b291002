// Names and paths from a tar are bytes, not text. A ByteString holds one byte per UTF-16 unit (latin1): exact, hashable as
// a Map key, sorted by unsigned byte with `<`, and stored by V8 in one byte per character.
declare const byteString: unique symbol;
export type ByteString = string & { readonly [byteString]: true };

const utf8 = new TextDecoder('utf-8', { fatal: true });

export function byteStringFrom(bytes: Uint8Array): ByteString {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1') as ByteString;
}

/** The bytes of `text` in UTF-8, as typed by a person or found in JSON. */
export function byteStringFromText(text: string): ByteString {
  return Buffer.from(text, 'utf8').toString('latin1') as ByteString;
}

export function bytesOf(value: ByteString): Buffer {
  return Buffer.from(value, 'latin1');
}

/** For people: the UTF-8 text when it is valid and printable, otherwise with `\xNN` escapes for what is not. */
export function displayBytes(value: ByteString): string {
  let text: string;
  try {
    text = utf8.decode(bytesOf(value));
  } catch {
    return value.replace(/[^\x20-\x7e]/g, escapeByte);
  }
  // oxlint-disable-next-line no-control-regex -- control characters are what must not reach a terminal
  return text.replace(/[\u0000-\u001f\u007f]/g, escapeByte);
}

function escapeByte(char: string): string {
  return `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`;
}
