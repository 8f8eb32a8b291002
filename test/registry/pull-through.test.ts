import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { get as httpGet } from 'node:http';
import type { IncomingMessage } from 'node:http';
import path from 'node:path';
import { buffer } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
import { digestHex } from '../../src/oci/digest.ts';
import { ForwardingRegistry } from '../../src/registry/forwarding-registry.ts';
import { DirRegistry, pullThrough } from '../../src/registry/registry.ts';
import type { BlobReader, CallOptions, Registry } from '../../src/registry/registry.ts';
import { Deferred } from '../../src/util/deferred.ts';
import { registryConformance } from '../conformance/registry.ts';
import { everything, forBlob, stall } from '../support/faults.ts';
import {
  eventually,
  has,
  impatient,
  openFilesBelow,
  proxyStack,
  readBack,
  served,
  uploadsIn,
  withUploads,
} from '../support/proxy-stack.ts';
import { content, digestOf, listAll, push, pushImage, readAll } from '../support/registry-content.ts';
import type { Fault } from '../support/registry-front.ts';
import { keptTempDir } from '../support/tmp.ts';

registryConformance('pullThrough with writes to upstream', async () => {
  const dirs = [keptTempDir(), keptTempDir()] as const;
  const registry = pullThrough(new DirRegistry(dirs[0].path), new DirRegistry(dirs[1].path), { writes: 'upstream' });
  const close = async () => {
    await registry.close();
    for (const dir of dirs) dir[Symbol.dispose]();
  };
  return { registry, close };
});

const big = content(2_000_000);

/** Sends these bytes instead of the registry's, and cuts the connection when they are fewer than announced; nothing more to who asks for the rest. */
function sends(bytes: Buffer, announced = bytes.byteLength): Fault {
  return (request, response) => {
    if (request.headers.range !== undefined) {
      response.destroy();
      return;
    }
    response.writeHead(200, { 'content-length': announced });
    response.write(bytes, () => (bytes.byteLength < announced ? response.destroy() : response.end()));
  };
}

/** Sends the first `bytes` of the blob and then nothing more until the connection ends. */
function hangsAfter(bytes: number): Fault {
  return (_request, response) => {
    response.writeHead(200, { 'content-length': big.bytes.byteLength });
    response.write(big.bytes.subarray(0, bytes));
  };
}

const gets = (requests: readonly { method: string }[]) => requests.filter(({ method }) => method === 'GET').length;

describe('a blob through the cache', () => {
  it('is served without upstream once it was read, also in part', async () => {
    const { origin, front, cache, store } = await proxyStack();
    await push(origin, 'a/b', big);
    const client = impatient((await served(cache)).host);
    const { digest } = big.descriptor;
    expect(digestOf(await readAll(await client.getBlob('a/b', digest)))).toBe(digest);
    // The reader is done before the store is; who asks now waits for it.
    expect(digestOf(await readAll(await client.getBlob('a/b', digest)))).toBe(digest);
    expect(gets(front.seen())).toBe(1);
    await vi.waitFor(() => store.resolveBlob('a/b', digest), { timeout: 20_000 });
    await front.close();
    expect(digestOf(await readAll(await client.getBlob('a/b', digest)))).toBe(digest);
    expect(await readAll(await client.getBlobRange('a/b', digest, 5_000, 9_000))).toEqual(
      big.bytes.subarray(5_000, 9_000),
    );
    expect((await client.resolveBlob('a/b', digest)).size).toBe(big.bytes.byteLength);
  });

  it.each([0, 1, 70_000])('of %s bytes is kept', async (size) => {
    const { origin, cache, store } = await proxyStack();
    const blob = content(size);
    await push(origin, 'a', blob);
    const { digest } = blob.descriptor;
    expect(digestOf(await readAll(await cache.getBlob('a', digest)))).toBe(digest);
    await eventually(() => has(store, blob.descriptor), true);
  });

  it('is downloaded once for fifty clients that ask at the same time', async () => {
    const { origin, front, cache, storeDir } = await proxyStack();
    const blob = content(500_000);
    await push(origin, 'a/b', blob);
    const { host } = await served(cache);
    const { digest } = blob.descriptor;
    const digests = await Promise.all(
      Array.from({ length: 50 }, async () => digestOf(await readAll(await impatient(host).getBlob('a/b', digest)))),
    );
    expect(new Set(digests)).toEqual(new Set([digest]));
    expect(gets(front.seen())).toBe(1);
    // The last reader may be done before the store is.
    await eventually(() => uploadsIn(storeDir), []);
  });

  it('is not downloaded again for who looked into the store just before it came there', async () => {
    const looked = new Deferred<void>();
    let isHeldBack = true;
    class SlowStore extends ForwardingRegistry {
      override async getBlob(...args: Parameters<Registry['getBlob']>): Promise<BlobReader> {
        const found = super.getBlob(...args);
        found.catch(() => {});
        if (isHeldBack) {
          isHeldBack = false;
          await looked.promise;
        }
        return await found;
      }
    }
    const { origin, front, cache, store } = await proxyStack({ storeAs: (inner) => new SlowStore(inner) });
    await push(origin, 'a', big);
    const { digest } = big.descriptor;
    const first = cache.getBlob('a', digest);
    await readAll(await cache.getBlob('a', digest));
    await eventually(() => has(store, big.descriptor), true);
    await readAll(await cache.getBlob('a', digest));
    looked.resolve();
    expect(digestOf(await readAll(await first))).toBe(digest);
    expect(gets(front.seen())).toBe(1);
  });

  it('reaches a fast client while a slow one that came first takes nothing, and then the slow one', async () => {
    const { origin, front, cache } = await proxyStack();
    // More than the connection of the slow one holds.
    const blob = content(8_000_000);
    await push(origin, 'a', blob);
    const { digest } = blob.descriptor;
    const { url, host } = await served(cache);
    const slow = await new Promise<IncomingMessage>((resolve) => void httpGet(`${url}/v2/a/blobs/${digest}`, resolve));
    const slowest = await cache.getBlob('a', digest);
    expect(digestOf(await readAll(await impatient(host).getBlob('a', digest)))).toBe(digest);
    expect(digestOf(await buffer(slow))).toBe(digest);
    expect(digestOf(await readAll(slowest))).toBe(digest);
    expect(gets(front.seen())).toBe(1);
  });

  it('goes on into the store when its client leaves', async () => {
    const { origin, front, cache, store } = await proxyStack();
    await push(origin, 'a', big);
    const reader = await cache.getBlob('a', big.descriptor.digest);
    await once(reader.body, 'readable');
    reader.close();
    await eventually(() => has(store, big.descriptor), true);
    expect(gets(front.seen())).toBe(1);
  });

  it('is given up when its only client leaves, if so wanted, and can be had later', async () => {
    const { origin, front, cache, store, storeDir } = await proxyStack({ finishDownloads: false });
    await push(origin, 'a', big);
    const { digest } = big.descriptor;
    const heal = front.interfere(forBlob(digest), hangsAfter(1_000_000));
    const [first, second] = [await cache.getBlob('a', digest), await cache.getBlob('a', digest)];
    await once(first.body, 'readable');
    first.close();
    expect(uploadsIn(storeDir)).toHaveLength(1);
    second.close();
    await eventually(() => uploadsIn(storeDir), []);
    heal();
    expect(digestOf(await readAll(await cache.getBlob('a', digest)))).toBe(digest);
    // A reader that has all of it does not end the storing when it leaves.
    await eventually(() => has(store, big.descriptor), true);
  });

  it('is not given up while somebody else waits for its size', async () => {
    const { origin, front, cache } = await proxyStack({ finishDownloads: false });
    await push(origin, 'a', big);
    const { digest } = big.descriptor;
    const hanging = stall();
    const heal = front.interfere(forBlob(digest), hanging.fault);
    const ending = new AbortController();
    const reading = cache.getBlob('a', digest, { signal: ending.signal });
    await eventually(() => front.requests.length, 1);
    const resolving = cache.resolveBlob('a', digest);
    await delay(50);
    ending.abort(new Error('enough'));
    await expect(reading).rejects.toThrow('enough');
    heal();
    hanging.release();
    expect((await resolving).size).toBe(big.bytes.byteLength);
  });

  it('is given up when the cache is closed, and no other is begun', async () => {
    const { origin, front, cache, storeDir } = await proxyStack();
    await push(origin, 'a', big);
    front.interfere(forBlob(big.descriptor.digest), hangsAfter(1_000_000));
    const reader = await cache.getBlob('a', big.descriptor.digest);
    const reading = readAll(reader);
    await eventually(() => uploadsIn(storeDir).length, 1);
    const failed = expect(reading).rejects.toThrow('the cache is closed');
    await cache.close();
    expect([uploadsIn(storeDir), openFilesBelow(storeDir)]).toEqual([[], []]);
    await failed;
    await expect(cache.getBlob('a', big.descriptor.digest)).rejects.toThrow('the cache is closed');
  });

  it('is in the store when the cache is closed, if a reader had all of it', async () => {
    const stored = new Deferred<void>();
    const { origin, cache, store } = await proxyStack({
      storeAs: (inner) =>
        withUploads(inner, (upload) => ({
          read: (...args) => readBack(upload, ...args),
          commit: async (digest, options) => {
            await stored.promise;
            return await upload.commit(digest, options);
          },
        })),
    });
    await push(origin, 'a', big);
    await readAll(await cache.getBlob('a', big.descriptor.digest));
    let isClosed = false;
    const closing = cache.close().then(() => (isClosed = true));
    await delay(50);
    expect(isClosed).toBe(false);
    stored.resolve();
    await closing;
    expect(await has(store, big.descriptor)).toBe(true);
  });

  it.each([
    ['other bytes', content(big.bytes.byteLength).bytes, 'DIGEST_INVALID'],
    [
      'one wrong byte at the end',
      Buffer.concat([big.bytes.subarray(0, -1), Buffer.of((big.bytes.at(-1) ?? 0) ^ 1)]),
      'DIGEST_INVALID',
    ],
    ['the first half', big.bytes.subarray(0, 1_000_000), 'UNREACHABLE'],
  ])('that upstream sends as %s fails and is not kept', async (_what, bytes, code) => {
    const { origin, front, cache, store, storeDir } = await proxyStack();
    await push(origin, 'a', big);
    const { digest } = big.descriptor;
    const { url } = await served(cache);
    const heal = front.interfere(forBlob(digest), sends(bytes, big.bytes.byteLength));
    const reading = () => cache.getBlob('a', digest).then(readAll);
    const failed = { status: 'rejected', reason: { code } };
    expect(await Promise.allSettled([reading(), reading()])).toMatchObject([failed, failed]);
    // The whole length never reaches a client, who could not know that it is wrong.
    await expect(fetch(`${url}/v2/a/blobs/${digest}`).then((response) => response.arrayBuffer())).rejects.toThrow();
    expect(await has(store, big.descriptor)).toBe(false);
    await eventually(() => uploadsIn(storeDir), []);
    heal();
    // Who comes while the failed download is cleared away is still told of its failure.
    await eventually(() => reading().then(digestOf, () => undefined), digest);
  });

  it('that is damaged in the store is fetched again', async () => {
    const { origin, cache, store, storeDir, events } = await proxyStack();
    const blob = content(5_000);
    await push(origin, 'a', blob);
    const { digest } = blob.descriptor;
    await readAll(await cache.getBlob('a', digest));
    await eventually(() => has(store, blob.descriptor), true);
    writeFileSync(path.join(storeDir, 'blobs/sha256', digestHex(digest)), Buffer.alloc(5_000));
    await expect(cache.getBlob('a', digest).then(readAll)).rejects.toMatchObject({ code: 'DIGEST_INVALID' });
    await eventually(() => has(store, blob.descriptor), false);
    expect(await readAll(await cache.getBlob('a', digest))).toEqual(blob.bytes);
    expect(events).toMatchObject([{ kind: 'store-failed', action: 'read' }]);
  });

  it.each([0, 1, 700_000, 2_000_000])('passes through when the disk is full after %s bytes', async (room) => {
    const { origin, cache, store, storeDir, events } = await proxyStack({
      storeAs: (inner) => fullStore(inner, room),
    });
    await push(origin, 'a', big);
    const { digest } = big.descriptor;
    const readers = await Promise.all(Array.from({ length: 3 }, () => cache.getBlob('a', digest)));
    // The others are not held up by the first, which takes nothing yet.
    for (const reader of readers.reverse()) expect(digestOf(await readAll(reader))).toBe(digest);
    expect(digestOf(await readAll(await cache.getBlob('a', digest)))).toBe(digest);
    await eventually(() => [uploadsIn(storeDir), openFilesBelow(storeDir)], [[], []]);
    expect(events).toMatchObject([{ kind: 'store-failed', action: 'write', error: { code: 'ENOSPC' } }]);
    expect(await has(store, big.descriptor)).toBe(false);
  });

  it('that is not in the store is read in part from upstream, and not kept for that', async () => {
    const { origin, front, cache, store } = await proxyStack();
    await push(origin, 'a', big);
    const { digest } = big.descriptor;
    const part = await cache.getBlobRange('a', digest, 1_000, 3_000);
    expect(part.descriptor.size).toBe(big.bytes.byteLength);
    expect(await readAll(part)).toEqual(big.bytes.subarray(1_000, 3_000));
    expect(front.seen().map(({ range, bytes }) => ({ range, bytes }))).toEqual([
      { range: 'bytes=1000-2999', bytes: 2_000 },
    ]);
    expect(await has(store, big.descriptor)).toBe(false);
    await expect(cache.getBlobRange('a', digest, 2_000_000, undefined)).rejects.toMatchObject({
      code: 'RANGE_INVALID',
    });
    front.interfere(forBlob(digest), (request, response, forward, ask) => {
      if (request.headers.range === undefined) hangsAfter(1_000)(request, response, forward, ask);
      else forward();
    });
    const whole = await cache.getBlob('a', digest);
    expect(await readAll(await cache.getBlobRange('a', digest, 1_500_000, 1_500_010))).toEqual(
      big.bytes.subarray(1_500_000, 1_500_010),
    );
    whole.close();
  });

  it('of one repository is not shown in another', async () => {
    const { origin, cache } = await proxyStack();
    await push(origin, 'a', big);
    await pushImage(origin, 'b', 'x');
    await readAll(await cache.getBlob('a', big.descriptor.digest));
    await expect(cache.getBlob('b', big.descriptor.digest)).rejects.toMatchObject({ code: 'BLOB_UNKNOWN' });
  });
});

describe('a call that is aborted', () => {
  it('stops waiting for an upstream that hangs, whatever it asked', async () => {
    const { origin, front, cache } = await proxyStack();
    const { manifest, layer } = await pushImage(origin, 'a', 'v1');
    const hanging = stall();
    front.interfere(everything, hanging.fault);
    const { digest } = layer.descriptor;
    const calls: ((options: CallOptions) => Promise<unknown>)[] = [
      (options) => cache.getBlob('a', digest, options),
      (options) => cache.getBlobRange('a', digest, 0, 10, options),
      (options) => cache.resolveBlob('a', big.descriptor.digest, options),
      (options) => cache.getManifest('a', manifest.descriptor.digest, options),
      (options) => cache.resolveManifest('a', manifest.descriptor.digest, options),
      (options) => cache.getTag('a', 'v1', options),
      (options) => cache.resolveTag('a', 'v1', options),
      (options) => listAll(cache.tags('a', options)),
      (options) => listAll(cache.referrers('a', digest, options)),
    ];
    for (const [i, call] of calls.entries()) {
      const ending = new AbortController();
      const waiting = call({ signal: ending.signal });
      await eventually(() => front.requests.length > i, true);
      ending.abort(new Error('enough'));
      await expect(waiting).rejects.toThrow('enough');
    }
    hanging.release();
  });

  it('leaves no upload and no open file behind, at whatever byte it ends', async () => {
    const { origin, cache, storeDir, store } = await proxyStack({ finishDownloads: false });
    for (const limit of [0, 1, 65_536, 300_000, 1_000_000, 1_900_000]) {
      const blob = content(big.bytes.byteLength);
      await push(origin, 'a', blob);
      const ending = new AbortController();
      const reader = await cache.getBlob('a', blob.descriptor.digest, { signal: ending.signal });
      const late = await cache.getBlob('a', blob.descriptor.digest, { signal: ending.signal });
      let seen = 0;
      const reading = (async () => {
        if (limit === 0) ending.abort(new Error('enough'));
        for await (const chunk of reader.body as AsyncIterable<Buffer>) {
          seen += chunk.byteLength;
          if (seen >= limit) ending.abort(new Error('enough'));
        }
      })();
      // Bytes that are in the stream already may still be read.
      if (limit < 1_000_000) await expect(reading).rejects.toThrow();
      else await reading.catch(() => {});
      await expect(readAll(late)).rejects.toThrow();
      await eventually(() => [uploadsIn(storeDir), openFilesBelow(storeDir), reader.body.destroyed], [[], [], true]);
      // What had come in full before may be kept, and then is right.
      if (await has(store, blob.descriptor))
        expect(digestOf(await readAll(await store.getBlob('a', blob.descriptor.digest)))).toBe(blob.descriptor.digest);
    }
  });
});

/** A store on a disk with so much room: what is written beyond ends with ENOSPC, and the commit does in any case. */
function fullStore(inner: Registry, room: number): Registry {
  const full = Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
  return withUploads(inner, (upload) => ({
    read: (...args) => readBack(upload, ...args),
    write: async (chunk, options) => {
      if (upload.size + chunk.byteLength > room) throw full;
      await upload.write(chunk, options);
    },
    commit: () => Promise.reject(full),
  }));
}
