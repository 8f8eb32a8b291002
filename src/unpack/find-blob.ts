// Where a layer's compressed bytes come from: the node first, then containerd, then the registry.
import { errorMessage } from '../layer/errors.ts';
import type { Logger } from '../observe/log.ts';
import type { Digest } from '../oci/digest.ts';
import type { BlobFeed } from './blob-feed.ts';
import { BlobDownload } from './blob-download.ts';
import type { CompressedStore } from './compressed-store.ts';
import { localFeed } from './local-feed.ts';
import { sourceFeed } from './source-feed.ts';
import type { UnpackLayerRequest } from './unpacker.ts';

export interface BlobPlaces {
  readonly compressed: CompressedStore;
  /** One download slot of the image. */
  readonly acquire: (image: string, options: { readonly signal: AbortSignal }) => Promise<Disposable>;
  readonly chunkSize: number;
  readonly log: Logger;
}

type Wanted = Pick<UnpackLayerRequest, 'image' | 'descriptor' | 'source' | 'local' | 'onProgress'>;

/** Of a layer, to who looks at its progress. */
export function progressName(digest: Digest): string {
  return `layer ${digest.slice(0, 19)}`;
}

/** `folder`: the job's. What was begun there is continued. Errors: ERR_UNPACK_DISK; the signal's reason. */
export async function findBlob(
  places: BlobPlaces,
  wanted: Wanted,
  folder: string,
  { signal }: { readonly signal: AbortSignal },
): Promise<BlobFeed> {
  const { compressed, acquire, chunkSize, log } = places;
  const { image, descriptor, source, onProgress } = wanted;
  const { digest, size } = descriptor;
  if (await compressed.has(descriptor)) return localFeed(compressed.path(digest), descriptor);
  const local = await inContainerd(places, wanted, signal);
  if (local !== undefined) return sourceFeed('containerd', local, descriptor);
  const what = progressName(digest);
  return await BlobDownload.open({
    folder,
    descriptor,
    source,
    acquire: (options) => acquire(image, options),
    chunkSize,
    log,
    onProgress: (done) => onProgress?.({ what, done, total: size }),
    signal,
  });
}

async function inContainerd({ log }: BlobPlaces, { local, descriptor }: Wanted, signal: AbortSignal) {
  try {
    return await local?.find(descriptor, { signal });
  } catch (error) {
    signal.throwIfAborted();
    log.debug({ layer: descriptor.digest, from: local?.name, error: errorMessage(error) }, 'not asked for the layer');
    return undefined;
  }
}
