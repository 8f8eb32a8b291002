import type { Descriptor } from '../oci/descriptor.ts';
import { RegistryError } from '../registry/errors.ts';
import type { BlobReader, CallOptions, Registry } from '../registry/registry.ts';

export type SourceOptions = CallOptions;

/** Where one layer's blob comes from. */
export interface BlobSource {
  /** For messages: registry, repository and digest, without secrets. */
  readonly name: string;
  /** Sources with the same one share a line: the registry's host. Default `name`: it has a line of its own. */
  readonly host?: string | undefined;
  /** Blob bytes [start, end), fewer only when the blob ends before. Errors: as `Reader.getBlobRange`. */
  readRange(start: number, end: number, options?: SourceOptions): Promise<BlobReader>;
  /** The whole blob from its first byte, verified while streaming. Errors: as `Reader.getBlob`. */
  readAll(options?: SourceOptions): Promise<BlobReader>;
  /** Another blob that goes with it, where there is one. `from`: reference of a repository that had it. */
  blob?(descriptor: Descriptor, from?: string): BlobSource;
}

/** A blob beside that of `source`: nobody has it where that can give only its own. */
export function otherBlob(source: BlobSource, descriptor: Descriptor, from?: string): BlobSource {
  const { digest } = descriptor;
  const refuse = () =>
    Promise.reject(new RegistryError('BLOB_UNKNOWN', `${source.name} gives no other blob: ${digest}`));
  return source.blob?.(descriptor, from) ?? { name: digest, readRange: refuse, readAll: refuse };
}

/** `name` is the registry and repository as a person would write them. */
export function registryBlobSource(
  registry: Registry,
  repository: string,
  name: string,
  descriptor: Descriptor,
): BlobSource {
  const { digest } = descriptor;
  return {
    name: `${name}@${digest}`,
    host: hostOf(name),
    readRange: (start, end, options) => registry.getBlobRange(repository, digest, start, end, options),
    readAll: (options) => registry.getBlob(repository, digest, options),
    blob: (other) => registryBlobSource(registry, repository, name, other),
  };
}

/** `name`: registry and repository as a person would write them. */
export function hostOf(name: string): string {
  const [host = name] = name.split('/');
  return host;
}
