// A secret as it is kept: version (1 byte), nonce (12), ciphertext, tag (16); AES-256-GCM (NIST SP 800-38D). The scope is
// authenticated with it, so that a record put in the place of another does not open.
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';

const algorithm = 'aes-256-gcm';
const version = 1;
const nonceBytes = 12;
const tagBytes = 16;

/** `key`: 32 bytes. */
export function sealSecret(key: Uint8Array, scope: string, secret: Uint8Array): Buffer {
  const nonce = randomBytes(nonceBytes);
  const cipher = createCipheriv(algorithm, key, nonce, { authTagLength: tagBytes }).setAAD(boundTo(scope));
  const sealed = cipher.update(secret);
  return Buffer.concat([Uint8Array.of(version), nonce, sealed, cipher.final(), cipher.getAuthTag()]);
}

/** Undefined for what was sealed with another key or for another scope, is damaged, or is of a version not known here. */
export function openSecret(key: Uint8Array, scope: string, sealed: Uint8Array): Buffer | undefined {
  if (sealed[0] !== version || sealed.byteLength < 1 + nonceBytes + tagBytes) return undefined;
  const nonce = sealed.subarray(1, 1 + nonceBytes);
  const decipher = createDecipheriv(algorithm, key, nonce, { authTagLength: tagBytes });
  decipher.setAAD(boundTo(scope)).setAuthTag(sealed.subarray(-tagBytes));
  const opened = decipher.update(sealed.subarray(1 + nonceBytes, -tagBytes));
  try {
    decipher.final();
    return opened;
  } catch {
    opened.fill(0);
    return undefined;
  }
}

function boundTo(scope: string): Buffer {
  return Buffer.concat([Uint8Array.of(version), Buffer.from(scope)]);
}
