// Pulling and pushing manifests (distribution spec, "Pulling manifests", "Pushing Manifests").
import type { Descriptor } from '../../oci/descriptor.ts';
import { digestAlgorithm, isDigest } from '../../oci/digest.ts';
import type { Digest } from '../../oci/digest.ts';
import { maxManifestBytes } from '../../oci/manifest.ts';
import { baseMediaType, isIndexType, isManifestType, manifestMediaTypes } from '../../oci/media-type.ts';
import { Scope } from '../auth/scope.ts';
import { digestOf } from '../blob-content.ts';
import { RegistryError, hasCode } from '../errors.ts';
import { manifestMediaType } from '../manifest-media-type.ts';
import type { CallOptions, ManifestContent } from '../interface.ts';
import { printable } from './answer-error.ts';
import type { HttpResponse } from './http.ts';
import { discard } from './registry-client.ts';
import type { RegistryClient } from './registry-client.ts';

const accept = [...manifestMediaTypes, '*/*'].join(', ');

export interface PushedManifest {
  readonly descriptor: Descriptor;
  /** The subject's digest when the registry keeps its list of referrers itself. */
  readonly subjectKept: string | undefined;
  /** Whether the registry also gave it the tag of a push by digest. */
  readonly tagKept: boolean;
}

export class ManifestCalls {
  readonly #client: RegistryClient;

  constructor(client: RegistryClient) {
    this.#client = client;
  }

  async get(repository: string, name: string, options: CallOptions = {}): Promise<ManifestContent> {
    const request = {
      ...this.#request(repository, name, 'pull'),
      method: 'GET',
      headers: { accept },
      accept: [200],
      ...options,
    } as const;
    const { response, bytes } = await this.#client.sendAndCollect(request, maxManifestBytes);
    const digest = this.#checkedDigest(response, bytes, name, request.what);
    const mediaType = manifestMediaType(bytes, response.header('content-type'));
    const vouchedFor = isDigest(name) || isDigest(response.header('docker-content-digest') ?? '');
    // Else any web page that answers for the registry would be a manifest with a digest of its own.
    if (!vouchedFor && !isManifestType(mediaType) && !isIndexType(mediaType)) {
      const what = `${request.what} at ${this.#client.options.host}`;
      throw new RegistryError('RESPONSE_INVALID', `${what}: the answer is no manifest (${printable(mediaType)})`);
    }
    return { descriptor: { mediaType, digest, size: bytes.byteLength }, bytes };
  }

  /** One HEAD; a GET only where a registry does not answer HEAD with digest and size. */
  async resolve(repository: string, name: string, options: CallOptions = {}): Promise<Descriptor> {
    let response: HttpResponse;
    try {
      const request = this.#request(repository, name, 'pull');
      response = await this.#client.send({
        ...request,
        method: 'HEAD',
        headers: { accept },
        accept: [200],
        ...options,
      });
    } catch (error) {
      if (hasCode(error, 'UNSUPPORTED')) return (await this.get(repository, name, options)).descriptor;
      throw error;
    }
    discard(response);
    const told = response.header('docker-content-digest') ?? (isDigest(name) ? name : '');
    const size = Number(response.header('content-length') ?? Number.NaN);
    const type = baseMediaType(response.header('content-type') ?? '');
    const typeKnown = isManifestType(type) || isIndexType(type);
    if (!isDigest(told) || !Number.isSafeInteger(size) || size === 0 || !typeKnown)
      return (await this.get(repository, name, options)).descriptor;
    if (isDigest(name) && digestAlgorithm(told) === digestAlgorithm(name) && told !== name)
      throw this.#wrongDigest(`manifest ${name}`, name, told);
    return { mediaType: type, digest: isDigest(name) ? name : told, size };
  }

  /** With a digest as `name`, `tag` asks for that tag too. */
  async put(
    repository: string,
    name: string,
    bytes: Uint8Array,
    mediaType: string,
    { tag, ...options }: CallOptions & { readonly tag?: string | undefined } = {},
  ): Promise<PushedManifest> {
    const request = this.#request(repository, name, 'pull', 'push');
    if (tag !== undefined) request.url.searchParams.set('tag', tag);
    const response = await this.#client.send({
      ...request,
      method: 'PUT',
      headers: { 'content-type': mediaType },
      body: { size: bytes.byteLength, open: () => bytes },
      accept: [201, 200, 202],
      ...options,
    });
    discard(response);
    const digest = isDigest(name) ? name : this.#checkedDigest(response, bytes, name, request.what);
    return {
      descriptor: { mediaType, digest, size: bytes.byteLength },
      subjectKept: response.header('oci-subject'),
      tagKept: tag !== undefined && response.headers('oci-tag').includes(tag),
    };
  }

  async delete(repository: string, name: string, options: CallOptions = {}): Promise<void> {
    await this.#client.delete({ ...this.#request(repository, name, 'pull', 'delete'), ...options });
  }

  /** The digest asked for or told by the registry, which the bytes must have; their sha256 when there is neither. */
  #checkedDigest(response: HttpResponse, bytes: Uint8Array, name: string, what: string): Digest {
    const told = response.header('docker-content-digest');
    for (const expected of [isDigest(name) ? name : undefined, told]) {
      if (expected === undefined || !isDigest(expected)) continue;
      const actual = digestOf(bytes, digestAlgorithm(expected));
      if (actual !== expected) throw this.#wrongDigest(what, expected, actual);
    }
    if (isDigest(name)) return name;
    return told !== undefined && isDigest(told) ? told : digestOf(bytes);
  }

  #wrongDigest(what: string, expected: string, actual: string): RegistryError {
    return new RegistryError(
      'DIGEST_INVALID',
      `${what} at ${this.#client.options.host}: expected ${expected}, the registry has ${actual}`,
    );
  }

  #request(repository: string, name: string, ...actions: readonly string[]) {
    return {
      url: this.#client.url(`/v2/${repository}/manifests/${name}`),
      what: `manifest ${repository}${isDigest(name) ? '@' : ':'}${name}`,
      subject: 'manifest',
      scope: Scope.repository(repository, ...actions),
    } as const;
  }
}
