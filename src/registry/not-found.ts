// What every store says about what it does not have, and about a tag that is taken.
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from './errors.ts';

export function blobUnknown(repository: string, digest: Digest): RegistryError {
  return new RegistryError('BLOB_UNKNOWN', `blob ${digest} of ${repository} not found`);
}

/** `name` is `:TAG` or `@DIGEST`. */
export function manifestUnknown(repository: string, name: string): RegistryError {
  return new RegistryError('MANIFEST_UNKNOWN', `manifest ${repository}${name} not found`);
}

export function repositoryUnknown(repository: string): RegistryError {
  return new RegistryError('NAME_UNKNOWN', `repository ${repository} not found`);
}

export function uploadUnknown(repository: string, id: string): RegistryError {
  return new RegistryError('BLOB_UPLOAD_UNKNOWN', `no upload ${JSON.stringify(id.slice(0, 64))} in ${repository}`);
}

/** To a push that gives the tag only when there is none. */
export function tagTaken(repository: string, tag: string, holder: string): RegistryError {
  return new RegistryError('DENIED', `tag ${repository}:${tag} is ${holder} already`);
}
