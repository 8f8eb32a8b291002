declare const digest: unique symbol;
/** `sha256:<64 hex>` or `sha512:<128 hex>`, lower case; anything else was refused by `parseDigest`. */
export type Digest = string & { readonly [digest]: true };

const hexLength = { sha256: 64, sha512: 128 } as const;
export type DigestAlgorithm = keyof typeof hexLength;

/** Throws TypeError naming the text when it is not a supported digest (OCI image spec, descriptor.md#digests). */
export function parseDigest(text: string): Digest {
  if (!isDigest(text)) throw new TypeError(`not a digest: ${JSON.stringify(text.slice(0, 200))}`);
  return text;
}

export function isDigest(text: string): text is Digest {
  const colon = text.indexOf(':');
  const algorithm = text.slice(0, colon);
  if (algorithm !== 'sha256' && algorithm !== 'sha512') return false;
  const hex = text.slice(colon + 1);
  return hex.length === hexLength[algorithm] && /^[0-9a-f]+$/.test(hex);
}

export function digestAlgorithm(value: Digest): DigestAlgorithm {
  return value.startsWith('sha512:') ? 'sha512' : 'sha256';
}

export function digestHex(value: Digest): string {
  return value.slice(7);
}

export function digestFromSha256(bytes: Uint8Array): Digest {
  return `sha256:${Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex')}` as Digest;
}
