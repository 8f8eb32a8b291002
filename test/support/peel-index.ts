// Pushes peel indexes of given tables and windows as referrers of an image.
import { Readable } from 'node:stream';
import { peelIndexManifest } from '../../src/index/peel-index-writer.ts';
import type { Descriptor } from '../../src/oci/descriptor.ts';
import type { Digest } from '../../src/oci/digest.ts';
import { sha256 } from './image-lab.ts';
import type { ImageLab, LabImage } from './image-lab.ts';

export interface PeelLayerFiles {
  readonly layer: Digest;
  readonly table: Uint8Array;
  readonly windows?: Uint8Array | undefined;
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
  lab: Pick<ImageLab, 'registry' | 'repository'>,
  image: Pick<LabImage, 'digest'>,
  layers: readonly PeelLayerFiles[],
  { created, subject = image.digest, withoutWindows }: PushPeelOptions = {},
): Promise<Digest> {
  const push = async (bytes: Uint8Array, descriptor: Descriptor) => {
    await lab.registry.pushBlob(lab.repository, descriptor, () => Readable.from([Buffer.from(bytes)]));
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
  const { size, mediaType } = await lab.registry.resolveManifest(lab.repository, image.digest);
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
  return (await lab.registry.pushManifest(lab.repository, undefined, bytes, manifest.descriptor.mediaType, options))
    .digest;
}
