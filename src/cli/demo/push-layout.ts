import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import type { Descriptor } from '../../oci/descriptor.ts';
import { digestHex } from '../../oci/digest.ts';
import { parseManifest } from '../../oci/manifest.ts';
import { RemoteRegistry } from '../../registry/remote-registry.ts';
import type { DemoImage } from './build-image.ts';

export interface PushTarget {
  /** `127.0.0.1:5000` */
  readonly host: string;
  readonly repository: string;
  readonly tag: string;
}

/** Pushes the layers, the config and then the manifest. */
export async function pushLayout(image: DemoImage, target: PushTarget, signal: AbortSignal): Promise<void> {
  const fileOf = ({ digest }: Descriptor): string => path.join(image.layout, 'blobs', 'sha256', digestHex(digest));
  const { repository } = target;
  const registry = new RemoteRegistry({ host: target.host });
  try {
    const bytes = await readFile(fileOf(image.manifest));
    const { config, layers } = parseManifest(bytes, image.manifest.mediaType);
    const blobs = [...layers, config];
    await Promise.all(
      blobs.map((blob) => registry.pushBlob(repository, blob, () => createReadStream(fileOf(blob)), { signal })),
    );
    await registry.pushManifest(repository, target.tag, bytes, image.manifest.mediaType, { signal });
  } finally {
    await registry.close();
  }
}
