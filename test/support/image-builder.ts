// Images for tests: layer tars in, blobs with config and manifest out, pushed to a registry or written as an OCI layout.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { copyFile, mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { gzipSync } from 'node:zlib';
import { compress as zstdCompress } from 'zstd-napi';
import type { Descriptor } from '../../src/oci/descriptor.ts';
import { type Digest, digestFromSha256, digestHex } from '../../src/oci/digest.ts';
import type { Platform } from '../../src/oci/platform.ts';
import type { Writer } from '../../src/registry/registry.ts';

/**
 * How a layer tar becomes a blob. `members`: a gzip member per MiB, as parallel compressors write. `zstd-frames`: a zstd frame per 64 KiB, as
 * seekable formats have them.
 */
export type Compression = 'none' | 'gzip' | 'gzip-9' | 'pigz' | 'members' | 'zstd' | 'zstd-frames';

export interface LayerSource {
  /** Path of the uncompressed tar. */
  readonly tar: string;
  readonly compression: Compression;
}

export interface BuiltLayer {
  readonly source: LayerSource;
  /** Path of the blob. */
  readonly blob: string;
  readonly descriptor: Descriptor;
  readonly diffId: Digest;
  /** Bytes of the uncompressed tar. */
  readonly streamSize: number;
}

export interface BuiltImage {
  readonly layers: readonly BuiltLayer[];
  readonly config: { readonly descriptor: Descriptor; readonly bytes: Uint8Array };
  readonly manifest: { readonly descriptor: Descriptor; readonly bytes: Uint8Array };
}

export interface ImageOptions {
  readonly mediaTypes?: 'oci' | 'docker';
  readonly platform?: Platform;
}

const cutters = {
  members: { size: 1 << 20, pack: (part: Uint8Array) => gzipSync(part) },
  'zstd-frames': { size: 64 << 10, pack: (part: Uint8Array) => zstdCompress(part) },
};

const commands: Record<Exclude<Compression, keyof typeof cutters>, readonly string[]> = {
  none: ['cat'],
  gzip: ['gzip', '-n', '-1'],
  'gzip-9': ['gzip', '-9', '--name'],
  pigz: ['pigz', '-n', '-1', '-p', '2', '-b', '128'],
  zstd: ['zstd', '-q', '-c'],
};

const media = {
  oci: {
    manifest: 'application/vnd.oci.image.manifest.v1+json',
    config: 'application/vnd.oci.image.config.v1+json',
    layer: (suffix: string) => `application/vnd.oci.image.layer.v1.tar${suffix && `+${suffix}`}`,
  },
  docker: {
    manifest: 'application/vnd.docker.distribution.manifest.v2+json',
    config: 'application/vnd.docker.container.image.v1+json',
    layer: (suffix: string) => `application/vnd.docker.image.rootfs.diff.tar${suffix && `.${suffix}`}`,
  },
};

/** Compresses the layers into `dir` and describes the image they make. */
export async function buildImage(
  dir: string,
  sources: readonly LayerSource[],
  options: ImageOptions = {},
): Promise<BuiltImage> {
  const types = media[options.mediaTypes ?? 'oci'];
  await mkdir(dir, { recursive: true });
  const layers: BuiltLayer[] = [];
  for (const [i, source] of sources.entries()) {
    const blob = join(dir, `layer-${i}`);
    await compress(source, blob);
    const suffix = source.compression === 'none' ? '' : source.compression.startsWith('zstd') ? 'zstd' : 'gzip';
    const descriptor = { mediaType: types.layer(suffix), ...(await digestFile(blob)) };
    const { digest: diffId, size: streamSize } = await digestFile(source.tar);
    layers.push({ source, blob, descriptor, diffId, streamSize });
  }
  const platform = options.platform ?? { architecture: nodeArchitecture(), os: 'linux' };
  return describeImage(layers, types, platform);
}

/** The manifest and config of layers that exist already; also for layers that no file holds. */
export function describeImage(
  layers: readonly BuiltLayer[],
  types = media.oci,
  platform: Platform = { architecture: nodeArchitecture(), os: 'linux' },
): BuiltImage {
  const config = json(types.config, {
    ...platform,
    config: { Env: ['PATH=/usr/bin:/bin'], Cmd: ['/bin/sh'] },
    rootfs: { type: 'layers', diff_ids: layers.map((layer) => layer.diffId) },
  });
  const manifest = json(types.manifest, {
    schemaVersion: 2,
    mediaType: types.manifest,
    config: config.descriptor,
    layers: layers.map((layer) => layer.descriptor),
  });
  return { layers, config, manifest };
}

export async function pushImage(
  registry: Writer,
  repository: string,
  tag: string | undefined,
  image: BuiltImage,
): Promise<Digest> {
  for (const { blob, descriptor } of image.layers) {
    await registry.pushBlob(repository, descriptor, () => createReadStream(blob));
  }
  const { config, manifest } = image;
  await registry.pushBlob(repository, config.descriptor, () => Readable.from([Buffer.from(config.bytes)]));
  await registry.pushManifest(repository, tag, manifest.bytes, manifest.descriptor.mediaType);
  return manifest.descriptor.digest;
}

/** An OCI layout directory (image-layout.md) with the image under `tag`. */
export async function writeLayout(dir: string, tag: string, image: BuiltImage): Promise<void> {
  const blobs = join(dir, 'blobs', 'sha256');
  await mkdir(blobs, { recursive: true });
  for (const { blob, descriptor } of image.layers) await copyFile(blob, join(blobs, digestHex(descriptor.digest)));
  for (const { descriptor, bytes } of [image.config, image.manifest]) {
    await writeFile(join(blobs, digestHex(descriptor.digest)), bytes);
  }
  const annotations = { 'org.opencontainers.image.ref.name': tag };
  const index = { schemaVersion: 2, manifests: [{ ...image.manifest.descriptor, annotations }] };
  await writeFile(join(dir, 'index.json'), JSON.stringify(index));
  await writeFile(join(dir, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
}

export function nodeArchitecture(): string {
  return process.arch === 'x64' ? 'amd64' : process.arch;
}

async function compress({ tar, compression }: LayerSource, blob: string): Promise<void> {
  if (compression === 'members' || compression === 'zstd-frames') {
    const { size, pack } = cutters[compression];
    const bytes = await readFile(tar);
    const parts: Buffer[] = [];
    for (let at = 0; at < bytes.length; at += size) parts.push(pack(bytes.subarray(at, at + size)));
    return writeFile(blob, Buffer.concat(parts));
  }
  const [command = '', ...args] = commands[compression];
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = new Promise<void>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => (code === 0 ? resolve() : reject(new Error(`${command} exited with ${code}`))));
  });
  await Promise.all([
    pipeline(createReadStream(tar), child.stdin),
    pipeline(child.stdout, createWriteStream(blob)),
    ended,
  ]);
}

async function digestFile(path: string): Promise<{ digest: Digest; size: number }> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return { digest: digestFromSha256(hash.digest()), size: (await stat(path)).size };
}

function json(mediaType: string, value: unknown): { descriptor: Descriptor; bytes: Uint8Array } {
  const bytes = Buffer.from(JSON.stringify(value));
  const digest = digestFromSha256(createHash('sha256').update(bytes).digest());
  return { descriptor: { mediaType, digest, size: bytes.length }, bytes };
}
