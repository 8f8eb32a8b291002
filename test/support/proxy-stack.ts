// client → server → cache → client → front → server → directory: a caching proxy and what it stands before, over real HTTP.
import { readdirSync, readlinkSync } from 'node:fs';
import path from 'node:path';
import { expect, onTestFinished } from 'vitest';
import type { Descriptor } from '../../src/oci/descriptor.ts';
import { ForwardingRegistry } from '../../src/registry/forwarding-registry.ts';
import { DirRegistry, RemoteRegistry, pullThrough, serveRegistry } from '../../src/registry/registry.ts';
import type {
  BlobWriter,
  PullThroughEvent,
  PullThroughOptions,
  PullThroughRegistry,
  Registry,
  RegistryServer,
} from '../../src/registry/registry.ts';
import { RegistryFront } from './registry-front.ts';
import { tempDir } from './tmp.ts';

export interface ProxyStack {
  /** The content of upstream, to put things there past the front. */
  readonly origin: DirRegistry;
  readonly front: RegistryFront;
  readonly store: DirRegistry;
  readonly storeDir: string;
  readonly cache: PullThroughRegistry;
  readonly events: readonly PullThroughEvent[];
  /** Advances the clock of the cache. */
  readonly later: (ms: number) => void;
  /** The cache as a process that was started anew would see it. */
  readonly restarted: () => Registry;
}

export interface ProxyStackOptions extends PullThroughOptions {
  /** Put around the directory the cache keeps its content in. */
  readonly storeAs?: (store: DirRegistry) => Registry;
}

export async function proxyStack({
  storeAs = (store) => store,
  ...options
}: ProxyStackOptions = {}): Promise<ProxyStack> {
  const [originDir, storeDir] = [tempDir(), tempDir()];
  const origin = new DirRegistry(originDir);
  const server = await serveRegistry(origin);
  const front = await RegistryFront.start(server.host);
  const remote = impatient(front.host);
  const store = new DirRegistry(storeDir);
  const events: PullThroughEvent[] = [];
  let time = 1_000_000;
  const caches: PullThroughRegistry[] = [];
  const cached = () => {
    const cache = pullThrough(remote, storeAs(store), {
      now: () => time,
      onEvent: (event) => void events.push(event),
      ...options,
    });
    caches.push(cache);
    return cache;
  };
  onTestFinished(async () => {
    // The readers may have everything before the store has.
    for (const cache of caches) await cache.close();
    await front.close();
    await remote.close();
    await server.close();
  });
  const later = (ms: number) => void (time += ms);
  return { origin, front, store, storeDir, cache: cached(), events, later, restarted: cached };
}

/** A store whose uploads cannot be read back, and are otherwise what `change` makes of them. */
export function withUploads(
  store: Registry,
  change: (upload: BlobWriter) => Partial<BlobWriter> = () => ({}),
): Registry {
  class Changed extends ForwardingRegistry {
    override async pushBlobChunked(...args: Parameters<Registry['pushBlobChunked']>): Promise<BlobWriter> {
      const upload = await super.pushBlobChunked(...args);
      return {
        id: upload.id,
        chunkSize: upload.chunkSize,
        get size() {
          return upload.size;
        },
        write: (chunk, options) => upload.write(chunk, options),
        close: () => upload.close(),
        commit: (digest, options) => upload.commit(digest, options),
        cancel: () => upload.cancel(),
        ...change(upload),
      };
    }
  }
  return new Changed(store);
}

/** Reads an upload back that must be able to. */
export function readBack(
  upload: BlobWriter,
  ...args: Parameters<NonNullable<BlobWriter['read']>>
): Promise<Uint8Array> {
  if (upload.read === undefined) throw new TypeError('the upload cannot be read back');
  return upload.read(...args);
}

/** A client that tries twice without waiting in between. */
export function impatient(host: string): RemoteRegistry {
  const backoff = { attempts: 2, baseMs: 1, maxMs: 1, maxRetryAfterMs: 1 };
  const client = new RemoteRegistry({ host, backoff });
  onTestFinished(() => client.close());
  return client;
}

export async function served(registry: Registry): Promise<RegistryServer> {
  const server = await serveRegistry(registry);
  onTestFinished(() => server.close());
  return server;
}

/** Uploads under way in a directory's registry. */
export function uploadsIn(dir: string): string[] {
  return readdirSync(dir, { recursive: true, encoding: 'utf8' }).filter((name) =>
    path.dirname(name).endsWith('_uploads'),
  );
}

/** Files below `dir` that this process has open. */
export function openFilesBelow(dir: string): string[] {
  return readdirSync('/proc/self/fd')
    .map((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`);
      } catch {
        return '';
      }
    })
    .filter((target) => target.startsWith(`${dir}/`));
}

/** Whether repository `a` has the blob. */
export async function has(store: Registry, { digest }: Descriptor): Promise<boolean> {
  return await store.resolveBlob('a', digest).then(
    () => true,
    () => false,
  );
}

/** What nobody tells the end of: looked at until it is so. */
export async function eventually(look: () => unknown, wanted: unknown): Promise<void> {
  await expect.poll(look, { interval: 5, timeout: 20_000 }).toEqual(wanted);
}
