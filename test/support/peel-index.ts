// Pushes peel indexes of given tables and windows as referrers of an image.
import { Readable } from 'node:stream';
import { peelIndexManifest } from '../../src/index/peel-index-writer.ts';
import type { Descriptor } from '../../src/oci/descriptor.ts';
import type { Digest } from '../../src/oci/digest.ts';
import type { Registry } from '../../src/registry/registry.ts';
import { sha256 } from './image-lab.ts';
import type { LabImage } from './image-lab.ts';

export interface PeelLayerFiles {
  readonly layer: Digest;
  readonly table: Uint8Array;
  readonly windows?: Uint8Array | undefined;
}

export interface PushPlace {
  readonly registry: Registry;
  readonly repository: string;
}

export interface PushPeelOptions {
  /** The index's annotation of that name. */
  readonly created?: string;
  /** What it says it is for; default the image. */
  readonly subject?: Digest;
  /** The manifest names them and the registry has not got them. */
  readonly withoutWindows?: true;
}

export async function pushPeelIndex(
  { registry, repository }: PushPlace,
  image: Pick<LabImage, 'digest'>,
  layers: readonly PeelLayerFiles[],
  { created, subject = image.digest, withoutWindows }: PushPeelOptions = {},
): Promise<Digest> {
  const push = async (bytes: Uint8Array, descriptor: Descriptor) => {
    await registry.pushBlob(repository, descriptor, () => Readable.from([Buffer.from(bytes)]));
    return descriptor;
  };
  const blob = (bytes: Uint8Array) => ({
    mediaType: 'application/octet-stream',
    digest: sha256(bytes),
    size: bytes.length,
  });
  const named = [];
  for (const { layer, table, windows } of layers) {
    const there = windows !== undefined && withoutWindows !== true;
    if (there) await push(windows, blob(windows));
    named.push({
      layer: { digest: layer },
      spanSize: 1 << 18,
      table: await push(table, blob(table)),
      windows: windows === undefined ? undefined : blob(windows),
    });
  }
  const { size, mediaType } = await registry.resolveManifest(repository, image.digest);
  const { manifest, config } = peelIndexManifest({
    subject: { mediaType, digest: subject, size },
    buildTool: 'test',
    layers: named,
  });
  await push(config.bytes, config.descriptor);
  const value = JSON.parse(Buffer.from(manifest.bytes).toString()) as { annotations: Record<string, string> };
  if (created !== undefined) value.annotations['org.opencontainers.image.created'] = created;
  const bytes = Buffer.from(JSON.stringify(value));
  const options = { allowMissing: true };
  return (await registry.pushManifest(repository, undefined, bytes, manifest.descriptor.mediaType, options)).digest;
}
