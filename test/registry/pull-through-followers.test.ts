// Readers of a blob that is still on its way into the store of a cache.
import type { ServerResponse } from 'node:http';
import { describe, expect, it } from 'vitest';
import type { Digest } from '../../src/oci/digest.ts';
import { DirRegistry, MemoryRegistry } from '../../src/registry/registry.ts';
import type { BlobReader, Registry } from '../../src/registry/registry.ts';
import { Deferred } from '../../src/util/deferred.ts';
import { forBlob } from '../support/faults.ts';
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
import type { ProxyStack, ProxyStackOptions } from '../support/proxy-stack.ts';
import { content, digestOf, push, readAll } from '../support/registry-content.ts';
import type { Content } from '../support/registry-content.ts';

const size = 3_000_000;
const half = size / 2;

/**
 * Lets upstream send the next part of what it has for the blob each time the returned function is called. After the last one the connection ends,
 * also when that were fewer bytes than announced.
 */
function inParts({ front }: ProxyStack, blob: Content, parts: readonly Uint8Array[]): () => void {
  const steps = parts.map(() => new Deferred<void>());
  const send = async (response: ServerResponse) => {
    response.writeHead(200, { 'content-length': blob.descriptor.size });
    response.flushHeaders();
    for (const [i, part] of parts.entries()) {
      await steps[i]?.promise;
      await new Promise((resolve) => void response.write(part, resolve));
    }
    response.destroy();
  };
  front.interfere(forBlob(blob.descriptor.digest), (request, response) => {
    // A client that lost its connection asks for the rest.
    if (request.headers.range === undefined) void send(response);
    else response.destroy();
  });
  let step = 0;
  return () => {
    steps[step]?.resolve();
    step += 1;
  };
}

/** A reader that is followed byte by byte. */
class Follower {
  readonly #reader: BlobReader;
  readonly #chunks: AsyncIterator<Buffer>;
  readonly bytes: Buffer[] = [];

  constructor(reader: BlobReader) {
    this.#reader = reader;
    this.#chunks = reader.body[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  }

  get seen(): number {
    return this.bytes.reduce((sum, chunk) => sum + chunk.byteLength, 0);
  }

  async take(bytes: number): Promise<void> {
    while (this.seen < bytes) {
      const step = await this.#chunks.next();
      if (step.done === true) return;
      this.bytes.push(step.value);
    }
  }

  close(): void {
    this.#reader.close();
  }

  async all(): Promise<Digest> {
    await this.take(Number.POSITIVE_INFINITY);
    return digestOf(Buffer.concat(this.bytes));
  }
}

const gets = ({ front }: ProxyStack) => front.seen('/blobs/').filter(({ method }) => method === 'GET').length;

/** Nothing of any download is left in the store's directory. */
async function isClean({ storeDir }: ProxyStack): Promise<void> {
  await eventually(() => [uploadsIn(storeDir), openFilesBelow(storeDir)], [[], []]);
}

async function stackWith(blob: Content, options: ProxyStackOptions): Promise<ProxyStack> {
  const stack = await proxyStack(options);
  await push(stack.origin, 'a', blob);
  return stack;
}

describe.each<[string, (dir: DirRegistry) => Registry]>([
  ['directory', (dir) => dir],
  ['memory', () => new MemoryRegistry()],
])('a blob on its way into a %s', (_name, storeAs) => {
  /** The first half is let go, and the first reader has it. */
  async function halfway(blob: Content, rest: readonly Uint8Array[], options: ProxyStackOptions = {}) {
    let store: Registry | undefined;
    const stack = await stackWith(blob, { storeAs: (dir) => (store = storeAs(dir)), ...options });
    const next = inParts(stack, blob, [blob.bytes.subarray(0, half), ...rest]);
    const open = async (from: Registry = stack.cache) => new Follower(await from.getBlob('a', blob.descriptor.digest));
    const first = await open();
    next();
    await first.take(half);
    return { stack, next, open, first, store: () => store ?? stack.store };
  }

  it('is read as far as it has come by a reader that comes late, and by one that stalled', async () => {
    const blob = content(size);
    const { digest } = blob.descriptor;
    const stack = await stackWith(blob, { storeAs });
    const quarters = [0, 1, 2, 3].map((i) => blob.bytes.subarray((i * size) / 4, ((i + 1) * size) / 4));
    const next = inParts(stack, blob, quarters);
    const { host } = await served(stack.cache);
    const open = async () => new Follower(await impatient(host).getBlob('a', digest));
    next();
    const [stalled, first] = [await open(), await open()];
    await stalled.take(1);
    next();
    await first.take(half);
    const late = await open();
    await late.take(half);
    await stalled.take(half);
    expect(digestOf(Buffer.concat(late.bytes))).toBe(digestOf(blob.bytes.subarray(0, half)));
    next();
    await late.take((size / 4) * 3);
    next();
    expect(await Promise.all([late.all(), first.all(), stalled.all()])).toEqual([digest, digest, digest]);
    expect(gets(stack)).toBe(1);
    await isClean(stack);
  });

  it('is downloaded once for fifty readers that come at fifty places of it', async () => {
    const blob = content(size);
    const { digest } = blob.descriptor;
    const stack = await stackWith(blob, { storeAs });
    const step = size / 50;
    const parts = Array.from({ length: 50 }, (_, i) => blob.bytes.subarray(i * step, (i + 1) * step));
    const next = inParts(stack, blob, parts);
    const reading: Promise<Digest>[] = [];
    const first = new Follower(await stack.cache.getBlob('a', digest));
    for (let i = 0; i < 50; i += 1) {
      reading.push(new Follower(await stack.cache.getBlob('a', digest)).all());
      next();
      // The last bytes come when all of them are right.
      await first.take(Math.min((i + 1) * step, size - step));
    }
    expect(new Set(await Promise.all(reading))).toEqual(new Set([digest]));
    expect(await first.all()).toBe(digest);
    expect(gets(stack)).toBe(1);
    await isClean(stack);
  });

  it('that breaks off fails for all who follow it, with the code of upstream', async () => {
    const blob = content(size);
    const { stack, next, open, first, store } = await halfway(blob, [blob.bytes.subarray(half, half + 1_000)]);
    const [late, stalled] = [await open(), await open()];
    await late.take(half);
    next();
    for (const reader of [first, late, stalled]) {
      await expect(reader.all()).rejects.toMatchObject({ code: 'UNREACHABLE' });
      expect(reader.seen).toBeLessThan(size);
    }
    expect(await has(store(), blob.descriptor)).toBe(false);
    await isClean(stack);
  });

  it('whose last byte is wrong is given in full to nobody', async () => {
    const blob = content(size);
    const rest = Buffer.from(blob.bytes.subarray(half));
    rest[rest.length - 1] = ~(rest.at(-1) ?? 0) & 0xff;
    const { stack, next, open, first, store } = await halfway(blob, [rest]);
    const [late, stalled] = [await open(), await open()];
    await late.take(half);
    next();
    for (const reader of [first, late, stalled]) {
      await expect(reader.all()).rejects.toMatchObject({ code: 'DIGEST_INVALID' });
      expect(reader.seen).toBeLessThan(size);
    }
    expect(await has(store(), blob.descriptor)).toBe(false);
    await isClean(stack);
  });

  it('is left by a reader that is aborted while it waits, and given up with the last one', async () => {
    const blob = content(size);
    const { digest } = blob.descriptor;
    const ending = [new AbortController(), new AbortController()];
    const { stack, first, store } = await halfway(blob, [blob.bytes.subarray(half)], { finishDownloads: false });
    const kept = store();
    const held = () =>
      kept instanceof MemoryRegistry ? Math.floor(kept.bytesHeld / half) : uploadsIn(stack.storeDir).length;
    const late = await Promise.all(
      ending.map(async ({ signal }) => new Follower(await stack.cache.getBlob('a', digest, { signal }))),
    );
    for (const [i, reader] of late.entries()) {
      await reader.take(half);
      const waiting = reader.take(size);
      ending[i]?.abort(new Error('enough'));
      await expect(waiting).rejects.toThrow('enough');
    }
    expect(held()).toBe(1);
    first.close();
    await eventually(held, 0);
    expect(gets(stack)).toBe(1);
    await isClean(stack);
  });

  it('goes on from the store for a reader whose next bytes were committed before it had read them', async () => {
    const committed = new Deferred<void>();
    const blob = content(size);
    const { digest } = blob.descriptor;
    const stack = await stackWith(blob, {
      storeAs: (dir) =>
        withUploads(storeAs(dir), (upload) => ({
          read: async (start, ...rest) => {
            if (start > 0) await committed.promise;
            return await readBack(upload, start, ...rest);
          },
          commit: async (...args) => {
            const descriptor = await upload.commit(...args);
            committed.resolve();
            return descriptor;
          },
        })),
    });
    const readers = await Promise.all([1, 2, 3].map(() => stack.cache.getBlob('a', digest)));
    for (const reader of readers) expect(digestOf(await readAll(reader))).toBe(digest);
    expect(gets(stack)).toBe(1);
    expect(stack.events).toEqual([]);
    await isClean(stack);
  });

  it('is whole for readers that come while small ones are committed', async () => {
    const stack = await stackWith(content(1), { storeAs });
    const blobs = Array.from({ length: 60 }, (_, i) => content((i % 10) * 7_000));
    await Promise.all(blobs.map((blob) => push(stack.origin, 'a', blob)));
    for (const { descriptor } of blobs) {
      const read = async (turns: number) => {
        for (let i = 0; i < turns; i += 1) await new Promise(setImmediate);
        return digestOf(await readAll(await stack.cache.getBlob('a', descriptor.digest)));
      };
      const digests = await Promise.all([0, 1, 3, 8, 20, 40].map(read));
      expect(new Set(digests)).toEqual(new Set([descriptor.digest]));
    }
    // Of the empty ones all have the same name.
    expect(gets(stack)).toBe(55);
    expect(stack.events).toEqual([]);
    await isClean(stack);
  });

  it('is read back in pieces of bounded size', async () => {
    const asked: number[] = [];
    const blob = content(size);
    const { first, next, open } = await halfway(blob, [blob.bytes.subarray(half)], {
      storeAs: (dir) =>
        withUploads(storeAs(dir), (upload) => ({
          read: async (start, end, options) => {
            asked.push(end - start);
            return await readBack(upload, start, end, options);
          },
        })),
    });
    await (await open()).take(half);
    expect(Math.max(...asked)).toBe(1024 * 1024);
    next();
    expect(await first.all()).toBe(blob.descriptor.digest);
  });
});

describe('a blob on its way into a store whose uploads cannot be read back', () => {
  it.each([
    ['reaches all who keep up, and from the store who comes late', () => withUploads, []],
    [
      'is there in the end when reading back fails',
      () => (dir: Registry) =>
        withUploads(dir, () => ({ read: () => Promise.reject(new Error('input/output error')) })),
      [{ kind: 'store-failed', action: 'read' }],
    ],
  ])('%s', async (_what, wrapped, events) => {
    const blob = content(size);
    const { digest } = blob.descriptor;
    const stack = await stackWith(blob, { bufferBytes: size / 2, storeAs: (dir) => wrapped()(dir) });
    const parts = [0, 1, 2].map((i) => blob.bytes.subarray((i * size) / 3, ((i + 1) * size) / 3));
    const next = inParts(stack, blob, parts);
    const open = async () => new Follower(await stack.cache.getBlob('a', digest));
    const early = [await open(), await open()];
    for (const thirds of [1, 2]) {
      next();
      if (events.length === 0) for (const reader of early) await reader.take((size / 3) * thirds);
    }
    const late = await open();
    next();
    for (const reader of [late, ...early]) expect(await reader.all()).toBe(digest);
    expect(gets(stack)).toBe(1);
    expect(stack.events).toMatchObject(events);
    await isClean(stack);
  });
});
