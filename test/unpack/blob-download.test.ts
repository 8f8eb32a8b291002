import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { registryBlobSource } from '../../src/layer/blob-source.ts';
import { MemoryRegistry, mirror } from '../../src/registry/registry.ts';
import type { MirrorCapability } from '../../src/registry/registry.ts';
import { answer, breaksAt, everything, forBlob, heldBack, ignoreRange, otherRange } from '../support/faults.ts';
import { bytesOf, chunkSize, downloadWorld, rangesOf, remoteAt } from '../support/download-world.ts';
import { eventually, openFilesBelow, served } from '../support/proxy-stack.ts';
import { content, push, readAll } from '../support/registry-content.ts';
import { RegistryFront } from '../support/registry-front.ts';
import type { Fault } from '../support/registry-front.ts';

const size = 3_000_000;
const blob = content(size);
const count = Math.ceil(size / chunkSize);
const never = new AbortController().signal;

/** The first `times` requests get `fault`, all later ones the right answer. */
function firstTimes(times: number, fault: Fault): Fault {
  let left = times;
  return (request, response, forward, ask) => {
    if (left === 0) return forward();
    left -= 1;
    fault(request, response, forward, ask);
  };
}

const startOf = (range: string | undefined) => Number(/(\d+)-/.exec(range ?? '')?.[1] ?? 0);
const inSteps = Array.from({ length: count }, (_, i) => `${i * chunkSize}-${Math.min((i + 1) * chunkSize, size) - 1}`);

describe('BlobDownload', () => {
  it('brings a blob in ranges, as many at once as there are leases, in its order', async () => {
    const { front, leases, open, folder } = await downloadWorld(blob, 3);
    let most = 0;
    const progress: number[] = [];
    front.interfere(everything, (_request, _response, forward) => {
      most = Math.max(most, leases.capacity - leases.available);
      setTimeout(forward, 5);
    });
    const download = await open({ onProgress: (done) => progress.push(done) });
    expect(await bytesOf(download.stream({ signal: never }))).toEqual(blob.bytes);
    expect(rangesOf(front)).toEqual(inSteps);
    expect(most).toBe(3);
    expect(readFileSync(download.path)).toEqual(blob.bytes);
    await download.close();
    expect(progress.at(-1)).toBe(size);
    expect(progress).toEqual(progress.toSorted((a, b) => a - b));
    expect(leases.available).toBe(3);
    expect(openFilesBelow(folder)).toEqual([]);
  });

  it('hands on bytes of a chunk while the rest of it is on its way', async () => {
    const { front, open } = await downloadWorld(blob);
    const held = heldBack(blob, 100_000);
    front.interfere(({ headers }) => startOf(headers.range) === 0, held.fault);
    const download = await open();
    const pieces: Uint8Array[] = [];
    let got = 0;
    for await (const piece of download.stream({ signal: never })) {
      pieces.push(piece);
      got += piece.length;
      if (got === 100_000) held.release();
    }
    expect(Buffer.concat(pieces)).toEqual(blob.bytes);
  });

  it('downloads what follows while the first chunk is slow, and then gives large pieces', async () => {
    const { front, open } = await downloadWorld(blob);
    const held = heldBack(blob, 1_000);
    front.interfere(({ headers }) => startOf(headers.range) === 0, held.fault);
    let done = 0;
    const download = await open({ onProgress: (bytes) => (done = bytes), chunkSize: 1 << 20 });
    await expect.poll(() => done).toBe(size - (1 << 20) + 1_000);
    const sizes: number[] = [];
    const all = (async () => {
      const pieces: Uint8Array[] = [];
      for await (const piece of download.stream({ signal: never })) {
        pieces.push(piece);
        sizes.push(piece.length);
      }
      return Buffer.concat(pieces);
    })();
    held.release();
    expect(await all).toEqual(blob.bytes);
    expect(sizes.slice(-2)).toEqual([1 << 20, size - (2 << 20)]);
  });

  it('gives bytes to readers in other places, when they are there', async () => {
    const { front, open } = await downloadWorld(blob);
    const held = heldBack(blob, 0);
    const last = (count - 1) * chunkSize;
    front.interfere(({ headers }) => startOf(headers.range) === last, held.fault);
    const { source, stream } = await open().then((download) => ({
      source: download.source,
      stream: download.stream({ signal: never }),
    }));
    expect(await readAll(await source.readRange(1_000, 700_000))).toEqual(blob.bytes.subarray(1_000, 700_000));
    const tail = readAll(await source.readRange(last - 10, size + 5_000));
    const whole = readAll(await source.readAll());
    // What is not asked for yet would be held back for ever.
    await eventually(() => rangesOf(front).includes(inSteps.at(-1) ?? ''), true);
    held.release();
    expect(await tail).toEqual(blob.bytes.subarray(last - 10));
    expect(await whole).toEqual(blob.bytes);
    expect(await bytesOf(stream)).toEqual(blob.bytes);
    await expect(source.readRange(size, size + 1)).rejects.toMatchObject({ code: 'RANGE_INVALID' });
  });

  it('takes an empty blob without asking', async () => {
    const { front, open } = await downloadWorld(content(0));
    const download = await open();
    expect(await bytesOf(download.stream({ signal: never }))).toHaveLength(0);
    expect(front.requests).toEqual([]);
  });
});

describe('a transfer that breaks', () => {
  it('is resumed where it broke', async () => {
    const { front, open } = await downloadWorld(blob);
    const at = chunkSize + 50_000;
    front.interfere(({ headers }) => startOf(headers.range) === chunkSize, breaksAt(blob, at));
    const download = await open();
    expect(await bytesOf(download.stream({ signal: never }))).toEqual(blob.bytes);
    expect(rangesOf(front).filter((range) => !inSteps.includes(range))).toEqual([`${at}-${2 * chunkSize - 1}`]);
  });

  it('may break many times as long as bytes come', async () => {
    const { front, open } = await downloadWorld(blob);
    front.interfere(everything, (request, response, forward, ask) =>
      breaksAt(blob, startOf(request.headers.range) + 30_000)(request, response, forward, ask),
    );
    const download = await open();
    expect(await bytesOf(download.stream({ signal: never }))).toEqual(blob.bytes);
    expect(front.requests.length).toBeGreaterThan(90);
  });

  it.each<[string, Fault]>([
    ['500', answer(500)],
    ['429', answer(429)],
    ['no answer', (_request, response) => void response.destroy()],
    ['another range', otherRange],
  ])('is tried again after %s', async (_what, fault) => {
    const { front, open } = await downloadWorld(blob, 2);
    front.interfere(everything, firstTimes(3, fault));
    const download = await open();
    expect(await bytesOf(download.stream({ signal: never }))).toEqual(blob.bytes);
    expect(front.requests).toHaveLength(count + 3);
  });

  it('goes on at the next endpoint when a mirror dies in the middle', async () => {
    const { front, source: origin, open } = await downloadWorld(blob);
    const stored = new MemoryRegistry();
    await push(stored, 'a/b', blob);
    const near = await RegistryFront.start((await served(stored)).host);
    let isDead = false;
    const die = async () => {
      isDead = true;
      await near.close();
    };
    onTestFinished(() => (isDead ? undefined : near.close()));
    near.interfere(everything, (request, response, forward, ask) => {
      if (startOf(request.headers.range) < 4 * chunkSize) return forward();
      breaksAt(blob, 4 * chunkSize + 77_777)(request, response, forward, ask);
      setTimeout(() => void die(), 20);
    });
    const capabilities = new Set<MirrorCapability>(['pull']);
    const both = mirror([
      { name: 'near', registry: remoteAt(near), capabilities },
      { name: 'origin', registry: remoteAt(front), capabilities },
    ]);
    const download = await open({ source: registryBlobSource(both, 'a/b', origin.name, blob.descriptor) });
    expect(await bytesOf(download.stream({ signal: never }))).toEqual(blob.bytes);
    expect(near.bytes()).toBeGreaterThanOrEqual(4 * chunkSize);
    expect(front.bytes()).toBeLessThan(size - 4 * chunkSize);
    expect(isDead).toBe(true);
  });
});

describe('a download that fails', () => {
  it.each<[string, Fault, number, string]>([
    ['at once when the blob is not there', answer(404), 1, 'ERR_UNPACK_FETCH'],
    ['at once when it is refused', answer(403), 1, 'ERR_UNPACK_FETCH'],
    ['after six failures in a row', answer(503), 6, 'ERR_UNPACK_FETCH'],
    ['at once when it is to stay away for an hour', answer(429, { 'retry-after': '3600' }), 1, 'ERR_UNPACK_FETCH'],
  ])('ends %s', async (_what, fault, requests, code) => {
    const { front, source, leases, open, folder } = await downloadWorld(blob, 1);
    front.interfere(everything, fault);
    const download = await open();
    const reading = bytesOf(download.stream({ signal: never }));
    await expect(reading).rejects.toMatchObject({ code, message: expect.stringContaining(source.name) });
    await expect(readAll(await download.source.readRange(5, 10))).rejects.toMatchObject({ code });
    expect(front.requests).toHaveLength(requests);
    await download.close();
    expect(leases.available).toBe(1);
    expect(openFilesBelow(folder)).toEqual([]);
  });

  it('ends all its requests when one of them cannot be answered', async () => {
    const { front, leases, open } = await downloadWorld(blob);
    const held = heldBack(blob, 0);
    front.interfere(everything, held.fault);
    front.interfere(({ headers }) => startOf(headers.range) === 2 * chunkSize, answer(404));
    const download = await open();
    await expect(bytesOf(download.stream({ signal: never }))).rejects.toMatchObject({ code: 'ERR_UNPACK_FETCH' });
    await expect.poll(() => leases.available).toBe(4);
    expect(leases.waiting).toBe(0);
  });

  it.each([chunkSize, 4 << 20])('says that the blob is shorter than its image says (chunks of %s)', async (chunk) => {
    const { open } = await downloadWorld(blob);
    const download = await open({ descriptor: { ...blob.descriptor, size: size + 300_000 }, chunkSize: chunk });
    await expect(bytesOf(download.stream({ signal: never }))).rejects.toMatchObject({
      code: 'ERR_UNPACK_DIGEST',
      message: expect.stringContaining(`${size + 300_000}`),
    });
  });

  it('ends for who reads when he wants it, and goes on for others', async () => {
    const { front, open } = await downloadWorld(blob);
    const held = heldBack(blob, 10);
    front.interfere(({ headers }) => startOf(headers.range) === 0, held.fault);
    const download = await open();
    const one = new AbortController();
    const reading = bytesOf(download.stream({ signal: one.signal }));
    await delay(20);
    one.abort(new Error('enough'));
    await expect(reading).rejects.toThrow('enough');
    held.release();
    expect(await bytesOf(download.stream({ signal: never }))).toEqual(blob.bytes);
  });

  it('that is closed ends everything at once and gives its leases back', async () => {
    const { front, leases, open, folder } = await downloadWorld(blob, 2);
    const held = heldBack(blob, 10);
    front.interfere(everything, held.fault);
    const download = await open();
    const reading = bytesOf(download.stream({ signal: never }));
    const other = readAll(await download.source.readRange(size - 10, size));
    const outcome = Promise.allSettled([reading, other]);
    await expect.poll(() => rangesOf(front)).toHaveLength(2);
    expect(leases.waiting).toBe(1);
    await Promise.all([download.close(), download.close()]);
    expect(await outcome).toMatchObject([
      { status: 'rejected', reason: { code: 'ERR_UNPACK_CANCELLED' } },
      { status: 'rejected', reason: { code: 'ERR_UNPACK_CANCELLED' } },
    ]);
    expect([leases.available, leases.waiting]).toEqual([2, 0]);
    expect(openFilesBelow(folder)).toEqual([]);
    await expect(bytesOf(download.stream({ signal: never }))).rejects.toMatchObject({ code: 'ERR_UNPACK_CANCELLED' });
  });
});

describe('a registry without ranges', () => {
  const refusals: [string, Fault][] = [
    ['sends all of it instead', ignoreRange],
    ['answers 416', withoutRange(answer(416))],
    ['answers 501', withoutRange(answer(501))],
    ['always sends another range', withoutRange(otherRange)],
  ];

  it.each(refusals)('that %s is read in one stream', async (_what, fault) => {
    const { front, leases, open } = await downloadWorld(blob);
    front.interfere(everything, fault);
    const download = await open({ chunkSize: 1 << 21 });
    expect(await bytesOf(download.stream({ signal: never }))).toEqual(blob.bytes);
    expect(readFileSync(download.path)).toEqual(blob.bytes);
    expect(rangesOf(front).filter((range) => range === 'all')).toHaveLength(1);
    await download.close();
    expect(leases.available).toBe(4);
  });

  it('begins again at the start when its stream breaks, and gives no byte twice', async () => {
    const { front, open } = await downloadWorld(blob);
    const breaks = [100_000, 100_000, 1_500_000];
    front.interfere(everything, withoutRange(answer(416)));
    front.interfere(
      ({ headers }) => headers.range === undefined && breaks.length > 0,
      (...exchange) => breaksAt(blob, breaks.shift() ?? 0)(...exchange),
    );
    const download = await open();
    expect(await bytesOf(download.stream({ signal: never }))).toEqual(blob.bytes);
    expect(readFileSync(download.path)).toEqual(blob.bytes);
    // Each failure is followed by the registry client's own try to go on where it was, which gets 416.
    expect(rangesOf(front).filter((range) => range === 'all')).toHaveLength(4);
  });

  it('that sends more than the blob is not listened to', async () => {
    const longer = content(size + 5);
    const { front, open } = await downloadWorld(longer);
    front.interfere(everything, withoutRange(answer(416)));
    const download = await open({ descriptor: { ...longer.descriptor, size } });
    await expect(bytesOf(download.stream({ signal: never }))).rejects.toMatchObject({
      code: expect.stringMatching(/^ERR_UNPACK_(FETCH|DIGEST)$/),
    });
    expect(readFileSync(download.path)).toHaveLength(size);
  });

  it('that has another blob under that name is found out', async () => {
    const { front, open } = await downloadWorld(blob);
    front.interfere(everything, withoutRange(answer(416)));
    front.interfere(
      ({ url, headers }) =>
        forBlob(blob.descriptor.digest)({ method: 'GET', url } as never) && headers.range === undefined,
      breaksAt(content(size), size),
    );
    const download = await open();
    await bytesOf(download.stream({ signal: never })).then(
      (bytes) => expect(bytes).not.toEqual(blob.bytes),
      (error: unknown) => expect(error).toMatchObject({ code: 'ERR_UNPACK_DIGEST' }),
    );
  });
});

/** The fault for requests of a range only. */
function withoutRange(fault: Fault): Fault {
  return (request, response, forward, ask) => {
    if (request.headers.range === undefined) forward();
    else fault(request, response, forward, ask);
  };
}
