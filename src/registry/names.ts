// The names a registry call takes, checked before anything is sent or opened: no `..`, no query, no second host.
import { isDigest } from '../oci/digest.ts';
import type { Digest } from '../oci/digest.ts';
import { isRepository, isTag } from '../oci/reference.ts';
import { RegistryError } from './errors.ts';

/** Errors: NAME_INVALID. */
export function checkRepository(text: string): string {
  if (!isRepository(text))
    throw new RegistryError('NAME_INVALID', `not a repository: ${JSON.stringify(text.slice(0, 300))}`);
  return text;
}

/** Errors: TAG_INVALID. */
export function checkTag(text: string): string {
  if (!isTag(text)) throw new RegistryError('TAG_INVALID', `not a tag: ${JSON.stringify(text.slice(0, 200))}`);
  return text;
}

/** Errors: DIGEST_INVALID. */
export function checkDigest(text: string): Digest {
  if (!isDigest(text)) throw new RegistryError('DIGEST_INVALID', `not a digest: ${JSON.stringify(text.slice(0, 200))}`);
  return text;
}
