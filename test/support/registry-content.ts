// Small content for registries, and reading it back.
import { createHash, randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import type { Descriptor } from '../../src/oci/descriptor.ts';
import { parseDigest } from '../../src/oci/digest.ts';
import type { Digest } from '../../src/oci/digest.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import type { BlobReader, Registry } from '../../src/registry/registry.ts';

export interface Content {
  readonly bytes: Buffer;
  readonly descriptor: Descriptor;
}

export function digestOf(bytes: Uint8Array, algorithm: 'sha256' | 'sha512' = 'sha256'): Digest {
  return parseDigest(`${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`);
}

export function content(value: string | Uint8Array | number, mediaType: string = mediaTypes.octetStream): Content {
  const bytes = typeof value === 'number' ? randomBytes(value) : Buffer.from(value);
  return { bytes, descriptor: { mediaType, digest: digestOf(bytes), size: bytes.byteLength } };
}

/** A stream in pieces of odd sizes. */
export function streamOf(bytes: Uint8Array, pieceSize = 70_001): Readable {
  const pieces: Uint8Array[] = [];
  for (let at = 0; at < bytes.byteLength; at += pieceSize) pieces.push(bytes.subarray(at, at + pieceSize));
  return Readable.from(pieces, { objectMode: false });
}

/** `bytes`, and then the error. */
export function failingStream(bytes: Uint8Array, error: Error): Readable {
  const pieces = async function* () {
    yield bytes;
    await Promise.resolve();
    throw error;
  };
  return Readable.from(pieces(), { objectMode: false });
}

export async function push(registry: Registry, repository: string, blob: Content): Promise<Descriptor> {
  return await registry.pushBlob(repository, blob.descriptor, () => streamOf(blob.bytes));
}

export async function readAll(reader: BlobReader): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of reader.body as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

export async function listAll<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

/** A manifest of an artifact with the given fields changed; `layers` and `config` are descriptors of pushed blobs. */
export function manifestOf(
  config: Descriptor,
  layers: readonly Descriptor[],
  changes: Readonly<Record<string, unknown>> = {},
): Content {
  const mediaType = typeof changes['mediaType'] === 'string' ? changes['mediaType'] : mediaTypes.imageManifest;
  const document = { schemaVersion: 2, config, layers, ...changes, mediaType };
  return content(JSON.stringify(document), mediaType);
}

/** Pushes a config, a layer and a manifest naming them. */
export async function pushImage(
  registry: Registry,
  repository: string,
  tag: string | undefined,
  changes: Readonly<Record<string, unknown>> = {},
): Promise<{ readonly manifest: Content; readonly config: Content; readonly layer: Content }> {
  const config = content(
    JSON.stringify({ os: 'linux', architecture: 'amd64', id: randomBytes(8).toString('hex') }),
    mediaTypes.imageConfig,
  );
  const layer = content(2_000, mediaTypes.layerGzip);
  await push(registry, repository, config);
  await push(registry, repository, layer);
  const manifest = manifestOf(config.descriptor, [layer.descriptor], changes);
  await registry.pushManifest(repository, tag, manifest.bytes, manifest.descriptor.mediaType);
  return { manifest, config, layer };
}
