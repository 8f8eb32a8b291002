import type { Readable } from 'node:stream';
import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from './errors.ts';
import type {
  BlobReader,
  BlobWriter,
  CallOptions,
  ListOptions,
  ManifestContent,
  PushManifestOptions,
  ReferrersOptions,
  Registry,
} from './interface.ts';

/** A registry that can do nothing: every call ends with UNSUPPORTED. Implementations override what they can do. */
export class BaseRegistry implements Registry {
  getBlob(_repository: string, _digest: Digest, _options?: CallOptions): Promise<BlobReader> {
    return unsupported('reading a blob');
  }

  getBlobRange(
    _repository: string,
    _digest: Digest,
    _start: number,
    _end: number | undefined,
    _options?: CallOptions,
  ): Promise<BlobReader> {
    return unsupported('reading a range of a blob');
  }

  getManifest(_repository: string, _digest: Digest, _options?: CallOptions): Promise<ManifestContent> {
    return unsupported('reading a manifest');
  }

  getTag(_repository: string, _tag: string, _options?: CallOptions): Promise<ManifestContent> {
    return unsupported('reading a tag');
  }

  resolveBlob(_repository: string, _digest: Digest, _options?: CallOptions): Promise<Descriptor> {
    return unsupported('resolving a blob');
  }

  resolveManifest(_repository: string, _digest: Digest, _options?: CallOptions): Promise<Descriptor> {
    return unsupported('resolving a manifest');
  }

  resolveTag(_repository: string, _tag: string, _options?: CallOptions): Promise<Descriptor> {
    return unsupported('resolving a tag');
  }

  pushBlob(
    _repository: string,
    _descriptor: Descriptor,
    _body: () => Readable,
    _options?: CallOptions,
  ): Promise<Descriptor> {
    return unsupported('pushing a blob');
  }

  pushBlobChunked(_repository: string, _chunkSize: number | undefined, _options?: CallOptions): Promise<BlobWriter> {
    return unsupported('pushing a blob in chunks');
  }

  resumeBlob(
    _repository: string,
    _id: string,
    _offset: number | undefined,
    _options?: CallOptions,
  ): Promise<BlobWriter> {
    return unsupported('resuming an upload');
  }

  mountBlob(
    _fromRepository: string,
    _toRepository: string,
    _digest: Digest,
    _options?: CallOptions,
  ): Promise<Descriptor> {
    return unsupported('mounting a blob');
  }

  pushManifest(
    _repository: string,
    _tag: string | undefined,
    _bytes: Uint8Array,
    _mediaType: string,
    _options?: PushManifestOptions,
  ): Promise<Descriptor> {
    return unsupported('pushing a manifest');
  }

  deleteBlob(_repository: string, _digest: Digest, _options?: CallOptions): Promise<void> {
    return unsupported('deleting a blob');
  }

  deleteManifest(_repository: string, _digest: Digest, _options?: CallOptions): Promise<void> {
    return unsupported('deleting a manifest');
  }

  deleteTag(_repository: string, _tag: string, _options?: CallOptions): Promise<void> {
    return unsupported('deleting a tag');
  }

  repositories(_options?: ListOptions): AsyncIterable<string> {
    return failing(() => unsupported('listing repositories'));
  }

  tags(_repository: string, _options?: ListOptions): AsyncIterable<string> {
    return failing(() => unsupported('listing tags'));
  }

  referrers(_repository: string, _digest: Digest, _options?: ReferrersOptions): AsyncIterable<Descriptor> {
    return failing(() => unsupported('listing referrers'));
  }
}

function unsupported(what: string): Promise<never> {
  return Promise.reject(new RegistryError('UNSUPPORTED', `${what} is not supported by this registry`));
}

/** The rejection is made when the list is read, so that one nobody reads is not an unhandled rejection. */
function failing(reject: () => Promise<never>): AsyncIterable<never> {
  return { [Symbol.asyncIterator]: () => ({ next: reject }) };
}
