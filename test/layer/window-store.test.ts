import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { RemoteWindows } from '../../src/index/peel-windows.ts';
import { WindowStore } from '../../src/layer/window-store.ts';
import { silentLog } from '../../src/observe/log.ts';
import { RegistryError } from '../../src/registry/errors.ts';
import { tempDir } from '../support/tmp.ts';
import { type RangeAnswer, type WindowBlob, rangesOf, windowBlob, windowBlobOf } from '../support/window-blob.ts';

/** 40 spans: every fifth has no window, the others some 1000 bytes each. */
const some = windowBlob(Array.from({ length: 40 }, (_, i) => (i % 5 === 0 ? 0 : 1000)));

function start({ windows, span }: { windows: RemoteWindows; span: number }): number {
  return windows.offsets[span] as number;
}

function rig({ blob, windows }: WindowBlob, options: { answer?: RangeAnswer; path?: string; stallMs?: number } = {}) {
  const { source, requests } = rangesOf(blob, options.answer);
  const path = options.path ?? join(tempDir(), 'windows');
  const store = new WindowStore({ path, windows, source, log: silentLog(), stallMs: options.stallMs ?? 5_000 });
  onTestFinished(() => store.close());
  /** The spans of each request. */
  const asked = () =>
    requests.map(([from, to]) => {
      const isIn = (_: number, span: number) =>
        (windows.lengths[span] ?? 0) > 0 && start({ windows, span }) >= from && start({ windows, span }) < to;
      return [...windows.lengths.keys()].filter((span) => isIn(0, span));
    });
  return { store, path, requests, asked };
}

async function* never(_start: number, _end: number, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  yield new Uint8Array(0);
  await delay(60_000, undefined, { signal });
}

describe('WindowStore', () => {
  it('gives every window as it was, asking for neighbours together', async () => {
    const { store, asked } = rig(some);
    for (const [span, plain] of some.plain.entries()) {
      if (plain !== undefined) expect(Buffer.from(await store.window(span)).equals(plain), `span ${span}`).toBe(true);
    }
    // 32 frames of some 1000 bytes, at least 16 KiB at a time.
    expect(asked().map((spans) => spans.length)).toEqual([17, 15].map((length) => expect.closeTo(length, -0.5)));
    expect(asked().flat()).toEqual([...some.windows.lengths.keys()].filter((span) => span % 5 !== 0));
  });

  it('keeps what came: another one over the same file asks for nothing', async () => {
    const first = rig(some);
    await first.store.window(6);
    await first.store.close();
    const second = rig(some, { path: first.path });
    for (const span of first.asked()[0] ?? [])
      expect(Buffer.from(await second.store.window(span))).toEqual(Buffer.from(some.plain[span] ?? []));
    expect(first.asked()).toHaveLength(1);
    expect(second.requests).toEqual([]);
  });

  it('lays the file out as the blob is', async () => {
    const { store, path, requests } = rig(some);
    store.prepare([...some.windows.lengths.keys()]);
    await store.window(39);
    await store.close();
    expect(requests).toEqual([[0, some.windows.size]]);
    expect((await readFile(path)).equals(some.blob.bytes)).toBe(true);
  });

  it('ends a request that is about to begin when it is closed', async () => {
    let closed: Promise<void> | undefined;
    const { store, requests } = rig(some, {
      answer: (...range) => {
        closed ??= store.close();
        return never(...range);
      },
    });
    const started = performance.now();
    const [one, other] = [store.window(1), store.window(39)];
    await expect(one).rejects.toMatchObject({ code: 'ERR_LAYER_CLOSED' });
    await expect(other).rejects.toMatchObject({ code: 'ERR_LAYER_CLOSED' });
    await closed;
    expect(performance.now() - started).toBeLessThan(3_000);
    expect(requests).toHaveLength(1);
  });

  it('asks once for a window that is on its way', async () => {
    let release = () => {};
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    const { store, requests } = rig(some, {
      answer: async function* held(from, to) {
        await released;
        yield some.blob.bytes.subarray(from, to);
      },
    });
    store.prepare([1, 2]);
    store.prepare([2, 1, 0]);
    while (requests.length === 0) await delay(1);
    // Also one that nobody asked for and that comes along.
    const spans = [1, 2, 2, 7];
    const windows = spans.map((span) => store.window(span));
    await delay(20);
    release();
    for (const [i, window] of (await Promise.all(windows)).entries())
      expect(Buffer.from(window)).toEqual(Buffer.from(some.plain[spans[i] as number] ?? []));
    expect(requests).toHaveLength(1);
  });

  it('merges over small gaps, and asks for what lies far apart at the same time', async () => {
    const wide = windowBlob(Array.from({ length: 60 }, () => 4000));
    let [waiting, most] = [0, 0];
    const { store, asked } = rig(wide, {
      answer: async function* counted(from, to) {
        waiting += 1;
        most = Math.max(most, waiting);
        await delay(20);
        waiting -= 1;
        yield wide.blob.bytes.subarray(from, to);
      },
    });
    store.prepare([3, 6, 50]);
    await Promise.all([3, 6, 50].map((span) => store.window(span)));
    expect(asked()).toEqual([
      [3, 4, 5, 6, ...(asked()[0]?.slice(4) ?? [])],
      [50, 51, 52, 53, ...(asked()[1]?.slice(4) ?? [])],
    ]);
    expect(asked().flat().length).toBeLessThan(12);
    expect(most).toBe(2);
  });

  it('asks once more for wrong bytes, and believes them the second time if they are right', async () => {
    let times = 0;
    const { store, asked } = rig(some, {
      answer: (from, to) => {
        const bytes = Buffer.from(some.blob.bytes.subarray(from, to));
        if (times++ === 0) bytes.fill(0xaa, start({ windows: some.windows, span: 8 }) - from, undefined);
        return [bytes];
      },
    });
    const [six, nine] = await Promise.all([store.window(6), store.window(9)]);
    expect(Buffer.from(six)).toEqual(Buffer.from(some.plain[6] ?? []));
    expect(Buffer.from(nine)).toEqual(Buffer.from(some.plain[9] ?? []));
    // Those before it were right the first time.
    expect(asked()[1]?.[0]).toBe(8);
    expect(asked()).toHaveLength(2);
  });

  it('gives up a window that comes wrong twice, and keeps nothing of it', async () => {
    const { store, path, requests } = rig(some, {
      answer: (from, to) => {
        const bytes = Buffer.from(some.blob.bytes.subarray(from, to));
        const at = start({ windows: some.windows, span: 8 }) - from;
        if (at >= 0 && at < bytes.length) bytes[at + 20] = ~(bytes[at + 20] ?? 0);
        return [bytes];
      },
    });
    await expect(store.window(8)).rejects.toMatchObject({
      code: 'ERR_INDEX_CHECKSUM',
      message: expect.stringContaining('span 8'),
    });
    expect(requests).toHaveLength(2);
    await store.window(9);
    expect(requests).toHaveLength(2);
    await store.close();
    const kept = await readFile(path);
    const at = start({ windows: some.windows, span: 8 });
    expect(kept.subarray(at, at + 500).every((byte) => byte === 0)).toBe(true);
  });

  it('believes nothing that is in the file', async () => {
    const first = rig(some);
    await first.store.window(1);
    await first.store.close();
    const bytes = await readFile(first.path);
    bytes[30] = ~(bytes[30] ?? 0);
    await writeFile(first.path, bytes);
    const second = rig(some, { path: first.path });
    expect(Buffer.from(await second.store.window(1))).toEqual(Buffer.from(some.plain[1] ?? []));
    expect(second.asked()).toEqual([[1]]);
  });

  it('refuses a frame that has its digest and is no window', async () => {
    const wrong = windowBlobOf([undefined, Buffer.from('no zstd at all')]);
    const { store } = rig(wrong);
    await expect(store.window(1)).rejects.toMatchObject({ code: 'ERR_INDEX_FORMAT' });
    await expect(store.window(0)).rejects.toThrow(RangeError);
  });

  it('tells who asks what went wrong while it was prepared, and begins anew for the next', async () => {
    let away = true;
    const { store, requests } = rig(some, {
      answer: async function* refusing(from, to) {
        yield some.blob.bytes.subarray(from, from);
        if (away) throw new RegistryError('UNAVAILABLE', 'come back later');
        yield some.blob.bytes.subarray(from, to);
      },
    });
    store.prepare([1, 2]);
    await delay(50);
    await expect(store.window(1)).rejects.toThrow('come back later');
    expect(requests).toHaveLength(1);
    away = false;
    store.prepare([2]);
    await store.window(2);
    await store.window(3);
    expect(requests).toHaveLength(2);
    await store.window(1);
  });

  it('loses nothing that came before a transfer broke', async () => {
    let times = 0;
    const { store, asked } = rig(some, {
      answer: async function* breaking(from, to) {
        if (times++ > 0) return yield some.blob.bytes.subarray(from, to);
        yield some.blob.bytes.subarray(from, start({ windows: some.windows, span: 4 }) + 10);
        throw new Error('connection reset');
      },
    });
    const windows = await Promise.allSettled([1, 2, 3, 4].map((span) => store.window(span)));
    expect(windows.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'fulfilled', 'rejected']);
    await store.window(4);
    expect(asked()[1]?.[0]).toBe(4);
  });

  it('says that the blob is too short', async () => {
    const { store } = rig(some, { answer: (from) => [some.blob.bytes.subarray(from, from + 100)] });
    await expect(store.window(1)).rejects.toMatchObject({ code: 'ERR_LAYER_SHORT' });
  });

  it('gives up a request that brings nothing any more, not one that is slow', async () => {
    const nothing = rig(some, { answer: never, stallMs: 50 });
    await expect(nothing.store.window(1)).rejects.toThrow(/no bytes of windows of the test/);
    const half = rig(some, {
      answer: async function* halting(from, to, signal) {
        yield some.blob.bytes.subarray(from, from + 100);
        yield* never(from, to, signal);
      },
      stallMs: 50,
    });
    await expect(half.store.window(1)).rejects.toThrow(/no bytes of windows of the test/);
    const slow = rig(some, {
      answer: async function* dripping(from, to) {
        for (let at = from; at < to; at += 4000) {
          yield some.blob.bytes.subarray(at, Math.min(at + 4000, to));
          await delay(150);
        }
      },
      stallMs: 400,
    });
    await Promise.all([slow.store.window(16), slow.store.window(34)]);
    expect(slow.requests).toHaveLength(1);
  });

  it('lets one who waits go, and goes on for the others', async () => {
    const { store } = rig(some, {
      answer: async function* slow(from, to) {
        await delay(50);
        yield some.blob.bytes.subarray(from, to);
      },
    });
    const leaving = store.window(1, { signal: AbortSignal.timeout(10) });
    const staying = store.window(1);
    await expect(leaving).rejects.toThrow(/timeout/);
    expect(Buffer.from(await staying)).toEqual(Buffer.from(some.plain[1] ?? []));
  });

  it('ends at once when it is closed', async () => {
    const { store } = rig(some, { answer: never });
    const waiting = store.window(1);
    await delay(20);
    await Promise.all([store.close(), expect(waiting).rejects.toMatchObject({ code: 'ERR_LAYER_CLOSED' })]);
    await expect(store.window(2)).rejects.toMatchObject({ code: 'ERR_LAYER_CLOSED' });
    store.prepare([3]);
  });

  it('removes its file and gives windows without one', async () => {
    const { store, path, requests } = rig(some);
    await store.window(1);
    await store.drop();
    await expect(stat(path)).rejects.toMatchObject({ code: 'ENOENT' });
    await store.window(1);
    await store.drop();
    await expect(stat(path)).rejects.toMatchObject({ code: 'ENOENT' });
    expect(requests).toHaveLength(2);
  });

  it('gives windows where none can be kept', async () => {
    const { store } = rig(some, { path: join(tempDir(), 'no', 'such', 'folder') });
    expect(Buffer.from(await store.window(1))).toEqual(Buffer.from(some.plain[1] ?? []));
    expect(Buffer.from(await store.window(1))).toEqual(Buffer.from(some.plain[1] ?? []));
  });
});
