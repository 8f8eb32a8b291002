// A registry in this process with a front that counts and misbehaves, images made of tar members, and nodes of their own.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { onTestFinished } from 'vitest';
import { openNode } from '../../src/daemon/node.ts';
import type { Node, NodeOptions } from '../../src/daemon/node.ts';
import { createSociIndex } from '../../src/index/soci-index-writer.ts';
import type { SociIndexFiles } from '../../src/index/soci-index-writer.ts';
import { writeTarZinfo } from '../../src/index/tar-zinfo.ts';
import { writeZtoc } from '../../src/index/ztoc-writer.ts';
import type { Descriptor } from '../../src/oci/descriptor.ts';
import { digestFromSha256 } from '../../src/oci/digest.ts';
import type { Digest } from '../../src/oci/digest.ts';
import { DirRegistry } from '../../src/registry/dir-registry.ts';
import { serveRegistry } from '../../src/registry/serve-registry.ts';
import { TarReader } from '../../src/tar/reader.ts';
import { nodeArchitecture } from './image-builder.ts';
import { RegistryFront } from './registry-front.ts';
import { runDirectoryIs } from './run-directory.ts';
import { tempDir } from './tmp.ts';

export type LabCompression = 'none' | 'gzip' | 'zstd';

export interface LabLayer {
  readonly tar: Buffer;
  readonly blob: Buffer;
  readonly descriptor: Descriptor;
  readonly diffId: Digest;
}

export interface LabImage {
  readonly reference: string;
  readonly byDigest: string;
  readonly digest: Digest;
  readonly layers: readonly LabLayer[];
}

export class ImageLab {
  readonly dir = tempDir('peel-lab-');
  readonly registry: DirRegistry;
  readonly front: RegistryFront;
  readonly repository = 'lab/app';
  #nodes = 0;

  private constructor(registry: DirRegistry, front: RegistryFront) {
    this.registry = registry;
    this.front = front;
  }

  /** Closed when the test ends. */
  static async start(): Promise<ImageLab> {
    const registry = new DirRegistry(tempDir('peel-lab-registry-'));
    const server = await serveRegistry(registry);
    const front = await RegistryFront.start(server.host);
    onTestFinished(async () => {
      await front.close();
      await server.close();
    });
    return new ImageLab(registry, front);
  }

  /** A node with nothing on it, or the one whose directory is given, closed when the test ends. */
  async node(options: NodeOptions = {}): Promise<Node> {
    const root = options.root ?? join(this.dir, `node-${this.#nodes++}`);
    mkdirSync(root, { recursive: true });
    runDirectoryIs(join(root, 'run'), onTestFinished);
    const node = await openNode({ logLevel: 'silent', readDeadlineMs: 10_000, ...options, root });
    onTestFinished(() => node.close());
    return node;
  }

  async push(tag: string, layers: readonly LabLayer[], repository = this.repository): Promise<LabImage> {
    for (const { blob, descriptor } of layers) await this.#pushBlob(descriptor, blob, repository);
    const config = jsonBlob('application/vnd.oci.image.config.v1+json', {
      architecture: nodeArchitecture(),
      os: 'linux',
      rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) },
    });
    await this.#pushBlob(config.descriptor, config.bytes, repository);
    const mediaType = 'application/vnd.oci.image.manifest.v1+json';
    const manifest = jsonBlob(mediaType, {
      schemaVersion: 2,
      mediaType,
      config: config.descriptor,
      layers: layers.map(({ descriptor }) => descriptor),
    });
    const { digest } = await this.registry.pushManifest(repository, tag, manifest.bytes, mediaType);
    const name = `${this.front.host}/${repository}`;
    return { reference: `${name}:${tag}`, byDigest: `${name}@${digest}`, digest, layers };
  }

  /** Pushes zTOCs of uncompressed layers as a referrer. `change` may make them wrong. */
  async pushIndex(
    image: LabImage,
    o: {
      spanSize: number;
      change?: (ztoc: Uint8Array, layer: LabLayer) => Uint8Array;
      repository?: string;
      /** The index's own annotation of that name. */
      created?: string;
    },
  ): Promise<SociIndexFiles> {
    const repository = o.repository ?? this.repository;
    const { size } = await this.registry.resolveManifest(repository, image.digest);
    const ztocs = image.layers.map((layer) => {
      const ztoc = storedZtoc(layer, o.spanSize);
      return { layer: layer.descriptor, ztoc: o.change?.(ztoc, layer) ?? ztoc, spanSize: o.spanSize };
    });
    const subject = { mediaType: 'application/vnd.oci.image.manifest.v1+json', digest: image.digest, size };
    const files = createSociIndex({ subject, buildTool: 'test', ztocs });
    for (const { descriptor, bytes } of files.blobs) await this.#pushBlob(descriptor, Buffer.from(bytes), repository);
    const { bytes, descriptor } = o.created === undefined ? files.manifest : createdAt(files.manifest, o.created);
    await this.registry.pushManifest(repository, undefined, bytes, descriptor.mediaType);
    return { ...files, manifest: { bytes, descriptor } };
  }

  async #pushBlob(descriptor: Descriptor, bytes: Uint8Array, repository: string): Promise<void> {
    await this.registry.pushBlob(repository, descriptor, () => Readable.from([Buffer.from(bytes)]));
  }
}

export function labLayer(tar: Buffer, compression: LabCompression = 'none'): LabLayer {
  const compress = {
    none: (bytes: Buffer) => bytes,
    gzip: (bytes: Buffer) => gzipSync(bytes),
    zstd: (bytes: Buffer) => execFileSync('zstd', ['-q', '-c'], { input: bytes, maxBuffer: 1 << 30 }),
  };
  const blob = compress[compression](tar);
  const suffix = compression === 'none' ? '' : `+${compression}`;
  const mediaType = `application/vnd.oci.image.layer.v1.tar${suffix}`;
  return { tar, blob, descriptor: { mediaType, digest: sha256(blob), size: blob.length }, diffId: sha256(tar) };
}

export function storedZtoc(layer: LabLayer, spanSize: number): Uint8Array {
  const reader = new TarReader();
  const entries = [...reader.push(layer.tar)];
  const end = reader.finish().endOffset;
  const count = Math.ceil(layer.blob.length / spanSize);
  const spanSha256 = new Uint8Array(32 * count);
  for (let i = 0; i < count; i++) {
    spanSha256.set(
      createHash('sha256')
        .update(layer.blob.subarray(i * spanSize, (i + 1) * spanSize))
        .digest(),
      32 * i,
    );
  }
  return writeZtoc({
    buildTool: 'test',
    compression: 'none',
    compressedSize: layer.blob.length,
    uncompressedSize: end,
    entries,
    checkpoints: writeTarZinfo({ spanSize, size: layer.blob.length }),
    spanSha256,
  });
}

export function sha256(bytes: Uint8Array): Digest {
  return digestFromSha256(createHash('sha256').update(bytes).digest());
}

function createdAt(manifest: SociIndexFiles['manifest'], created: string): SociIndexFiles['manifest'] {
  const value = JSON.parse(Buffer.from(manifest.bytes).toString()) as { annotations: Record<string, string> };
  value.annotations['org.opencontainers.image.created'] = created;
  return jsonBlob(manifest.descriptor.mediaType, value);
}

function jsonBlob(mediaType: string, value: unknown): { descriptor: Descriptor; bytes: Buffer } {
  const bytes = Buffer.from(JSON.stringify(value));
  return { descriptor: { mediaType, digest: sha256(bytes), size: bytes.length }, bytes };
}
