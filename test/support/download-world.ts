// One blob in a real registry behind a front that misbehaves, and downloads of it.
import { onTestFinished } from 'vitest';
import { registryBlobSource } from '../../src/layer/blob-source.ts';
import type { BlobSource } from '../../src/layer/blob-source.ts';
import { silentLog } from '../../src/observe/log.ts';
import { MemoryRegistry } from '../../src/registry/registry.ts';
import { RemoteRegistry } from '../../src/registry/remote-registry.ts';
import { BlobDownload } from '../../src/unpack/blob-download.ts';
import type { BlobDownloadOptions } from '../../src/unpack/blob-download.ts';
import { Semaphore } from '../../src/util/semaphore.ts';
import { served } from './proxy-stack.ts';
import { push } from './registry-content.ts';
import type { Content } from './registry-content.ts';
import { RegistryFront } from './registry-front.ts';
import { tempDir } from './tmp.ts';

export interface DownloadWorld {
  readonly folder: string;
  readonly front: RegistryFront;
  readonly source: BlobSource;
  readonly leases: Semaphore;
  /** Closed with the test. */
  readonly open: (changes?: Partial<BlobDownloadOptions>) => Promise<BlobDownload>;
}

export const chunkSize = 256 << 10;

/** The registry's client never tries twice, and pauses between attempts take no time. */
export async function downloadWorld(blob: Content, slots = 4): Promise<DownloadWorld> {
  const folder = tempDir();
  const store = new MemoryRegistry();
  await push(store, 'a/b', blob);
  const front = await RegistryFront.start((await served(store)).host);
  onTestFinished(() => front.close());
  const source = sourceAt(front, blob);
  const leases = new Semaphore(slots);
  const open = async (changes: Partial<BlobDownloadOptions> = {}) => {
    const download = await BlobDownload.open({
      folder,
      descriptor: blob.descriptor,
      source,
      acquire: ({ signal }) => leases.acquire(1, { signal }),
      chunkSize,
      log: silentLog(),
      timer: { random: () => 0, sleep: () => new Promise((resolve) => void setImmediate(resolve)) },
      ...changes,
    });
    onTestFinished(() => download.close());
    return download;
  };
  return { folder, front, source, leases, open };
}

export function remoteAt(front: RegistryFront): RemoteRegistry {
  const registry = new RemoteRegistry({
    host: front.host,
    backoff: { attempts: 1, baseMs: 1, maxMs: 1, maxRetryAfterMs: 1 },
  });
  onTestFinished(() => registry.close());
  return registry;
}

function sourceAt(front: RegistryFront, blob: Content): BlobSource {
  return registryBlobSource(remoteAt(front), 'a/b', `${front.host}/a/b`, blob.descriptor);
}

/** `first-last` of each range that was asked for, `all` for the whole blob. */
export function rangesOf(front: RegistryFront): string[] {
  return front.seen('/blobs/').map(({ range }) => range?.replace('bytes=', '') ?? 'all');
}

export async function bytesOf(pieces: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const all: Uint8Array[] = [];
  for await (const piece of pieces) all.push(piece);
  return Buffer.concat(all);
}
