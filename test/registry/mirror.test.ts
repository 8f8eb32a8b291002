import { once } from 'node:events';
import { onTestFinished, describe, expect, it } from 'vitest';
import { DirRegistry, MemoryRegistry, mirror, pullThrough, serveRegistry } from '../../src/registry/registry.ts';
import type {
  FallbackEvent,
  MirrorCapability,
  MirrorEndpoint,
  MirrorOptions,
  Registry,
} from '../../src/registry/registry.ts';
import { RemoteRegistry } from '../../src/registry/remote-registry.ts';
import { registryConformance } from '../conformance/registry.ts';
import { answer, body, breaksAt, everything, forBlob, ignoreRange, serveManifest, stall } from '../support/faults.ts';
import { content, digestOf, listAll, push, pushImage, readAll, streamOf } from '../support/registry-content.ts';
import { RegistryFront } from '../support/registry-front.ts';
import type { Fault } from '../support/registry-front.ts';
import { keptTempDir, tempDir } from '../support/tmp.ts';

const every: readonly MirrorCapability[] = ['pull', 'resolve', 'push'];

registryConformance('mirror of an empty mirror and the origin', async () => {
  const dirs = [keptTempDir(), keptTempDir()] as const;
  const registry = mirror([
    { name: 'near', registry: new DirRegistry(dirs[0].path), capabilities: new Set(['pull', 'resolve']) },
    { name: 'origin', registry: new DirRegistry(dirs[1].path), capabilities: new Set(every) },
  ]);
  return { registry, close: async () => dirs.forEach((dir) => dir[Symbol.dispose]()) };
});

interface TestEndpoint extends MirrorEndpoint {
  readonly content: Registry;
  readonly front: RegistryFront;
}

/** A registry over HTTP whose client never tries twice. */
async function endpoint(name: string, capabilities: readonly MirrorCapability[] = every): Promise<TestEndpoint> {
  const stored = new MemoryRegistry();
  const server = await serveRegistry(stored);
  const front = await RegistryFront.start(server.host);
  const backoff = { attempts: 1, baseMs: 1, maxMs: 1, maxRetryAfterMs: 1 };
  const registry = new RemoteRegistry({ host: front.host, backoff });
  onTestFinished(async () => {
    await front.close();
    await registry.close();
    await server.close();
  });
  return { name, registry, capabilities: new Set(capabilities), content: stored, front };
}

async function pair(options: MirrorOptions = {}) {
  const [near, origin] = [await endpoint('near'), await endpoint('origin')];
  const events: string[] = [];
  const onFallback = (event: FallbackEvent) => void events.push(`${event.name} ${event.operation} ${event.code}`);
  return { near, origin, events, registry: mirror([near, origin], { onFallback, ...options }) };
}

const big = content(3_000_000);

const lies: Fault = body(200, 'x'.repeat(5_000));

describe('a read from a mirror', () => {
  it.each<[string, Fault | undefined, string]>([
    ['lacks it', undefined, 'BLOB_UNKNOWN'],
    ['wants credentials', answer(401), 'UNAUTHORIZED'],
    ['refuses', answer(403), 'DENIED'],
    ['fails', answer(500), 'UNAVAILABLE'],
    ['limits the rate', answer(429), 'TOOMANYREQUESTS'],
    ['drops the connection', (_request, response) => void response.destroy(), 'UNREACHABLE'],
    ['sends other bytes of the same size', lies, 'DIGEST_INVALID'],
  ])('goes on to the origin when the mirror %s', async (_what, fault, code) => {
    const { near, origin, events, registry } = await pair();
    const blob = content(5_000);
    await push(origin.content, 'a', blob);
    if (fault !== undefined) near.front.interfere(everything, fault);
    const reader = await registry.getBlob('a', blob.descriptor.digest);
    expect(reader.descriptor.size).toBe(5_000);
    expect(await readAll(reader)).toEqual(blob.bytes);
    expect(events).toEqual([`near getBlob ${code}`]);
  });

  it('takes what each has, tags and manifests and lists too', async () => {
    const { near, origin, events, registry } = await pair();
    const { manifest } = await pushImage(origin.content, 'a', 'v1');
    const { digest } = manifest.descriptor;
    expect(await registry.resolveTag('a', 'v1')).toEqual(manifest.descriptor);
    expect(Buffer.from((await registry.getTag('a', 'v1')).bytes)).toEqual(manifest.bytes);
    expect(Buffer.from((await registry.getManifest('a', digest)).bytes)).toEqual(manifest.bytes);
    expect(await listAll(registry.tags('a'))).toEqual(['v1']);
    expect(await listAll(registry.repositories())).toEqual(['a']);
    expect(events).toEqual([
      'near resolveTag MANIFEST_UNKNOWN',
      'near getTag MANIFEST_UNKNOWN',
      'near getManifest MANIFEST_UNKNOWN',
      'near tags NAME_UNKNOWN',
      'near repositories NAME_UNKNOWN',
    ]);
    near.front.interfere(
      everything,
      serveManifest({ descriptor: manifest.descriptor, bytes: Buffer.alloc(manifest.descriptor.size) }),
    );
    expect(Buffer.from((await registry.getManifest('a', digest)).bytes)).toEqual(manifest.bytes);
  });

  it('asks no more than the first that has it', async () => {
    const { near, origin, events, registry } = await pair();
    const { manifest, layer } = await pushImage(near.content, 'a', 'v1');
    await registry.getTag('a', 'v1');
    await registry.getManifest('a', manifest.descriptor.digest);
    await readAll(await registry.getBlob('a', layer.descriptor.digest));
    expect(origin.front.requests).toEqual([]);
    expect(events).toEqual([]);
  });

  it('asks each only for what it is there for', async () => {
    const puller = await endpoint('puller', ['pull']);
    const resolver = await endpoint('resolver', ['resolve']);
    const origin = await endpoint('origin');
    for (const { content: stored } of [puller, resolver]) await pushImage(stored, 'a', 'old');
    const registry = mirror([puller, resolver, origin]);
    const { manifest, layer } = await pushImage(registry, 'a', 'v1');
    expect([puller, resolver].flatMap(({ front }) => front.requests)).toEqual([]);
    await registry.getTag('a', 'old');
    await listAll(registry.tags('a'));
    expect(puller.front.requests).toEqual([]);
    resolver.front.forget();
    await registry.getManifest('a', manifest.descriptor.digest);
    await readAll(await registry.getBlob('a', layer.descriptor.digest));
    await registry.deleteTag('a', 'v1');
    expect(resolver.front.requests).toEqual([]);
    expect(puller.front.seen().map(({ method }) => method)).toEqual(['GET', 'GET']);
    await expect(mirror([puller]).getTag('a', 'v1')).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    await expect(mirror([puller]).deleteTag('a', 'v1')).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });

  it('ends at a range outside the blob, and goes on where a mirror ignores ranges', async () => {
    const { near, origin, events, registry } = await pair();
    const { digest, size } = big.descriptor;
    await push(near.content, 'a', big);
    await push(origin.content, 'a', big);
    for (const [start, end] of [
      [size, undefined],
      [-1, 5],
      [5, 5],
      [0.5, undefined],
    ] as const)
      await expect(registry.getBlobRange('a', digest, start, end)).rejects.toMatchObject({ code: 'RANGE_INVALID' });
    expect(origin.front.requests).toEqual([]);
    near.front.interfere(everything, ignoreRange);
    const reader = await registry.getBlobRange('a', digest, 2_000_000, 2_000_100);
    expect(await readAll(reader)).toEqual(big.bytes.subarray(2_000_000, 2_000_100));
    expect(events).toEqual(['near getBlobRange RANGE_INVALID']);
  });

  it('tells the failure of the origin, and names the others', async () => {
    const { near, origin, registry } = await pair({ cooldownMs: 0 });
    const get = () => registry.getBlob('a', big.descriptor.digest);
    await expect(get()).rejects.toMatchObject({
      code: 'BLOB_UNKNOWN',
      message: expect.stringMatching(/^origin: .*; also near: .*not found/),
    });
    let heal = origin.front.interfere(everything, answer(503));
    // That a mirror lacks it does not mean that it does not exist.
    await expect(get()).rejects.toMatchObject({ code: 'UNAVAILABLE', status: 503 });
    near.front.interfere(everything, answer(403));
    await expect(get()).rejects.toMatchObject({ code: 'DENIED', message: expect.stringContaining('also origin: ') });
    heal();
    heal = origin.front.interfere(everything, answer(401));
    await expect(get()).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
    heal();
  });

  it('stops for its signal and not for the next endpoint', async () => {
    const { near, origin, events, registry } = await pair();
    await push(origin.content, 'a', big);
    const hanging = stall();
    near.front.interfere(everything, hanging.fault);
    const ending = new AbortController();
    const waiting = registry.getBlob('a', big.descriptor.digest, { signal: ending.signal });
    await expect.poll(() => near.front.requests.length, { interval: 5, timeout: 20_000 }).toBe(1);
    ending.abort(new Error('enough'));
    await expect(waiting).rejects.toThrow('enough');
    hanging.release();
    expect(events).toEqual([]);
    expect(origin.front.requests).toEqual([]);
  });

  it('ends its transfer when it is closed midway', async () => {
    const { near, origin, events, registry } = await pair();
    await push(near.content, 'a', big);
    let cut = 0;
    near.front.interfere(everything, (_request, response) => {
      response.once('close', () => (cut += 1));
      response.writeHead(200, { 'content-length': big.descriptor.size });
      response.write(big.bytes.subarray(0, 100_000));
    });
    const reader = await registry.getBlob('a', big.descriptor.digest);
    await once(reader.body, 'readable');
    reader.close();
    reader.close();
    await expect.poll(() => cut, { interval: 5, timeout: 20_000 }).toBe(1);
    expect(events).toEqual([]);
    expect(origin.front.requests).toEqual([]);
  });
});

describe('a body that breaks midway', () => {
  const places = [0, 1, 100, 65_535, 65_536, 65_537, 1_000_000, 1_234_567, 2_999_999, 3_000_000];

  it.each(places)('at byte %s is continued from the next endpoint at that byte', async (at) => {
    const { near, origin, registry, events } = await pair();
    await push(origin.content, 'a', big);
    const { digest } = big.descriptor;
    near.front.interfere(forBlob(digest), breaksAt(big, at));
    const whole = await readAll(await registry.getBlob('a', digest));
    expect(digestOf(whole)).toBe(digest);
    const isBroken = at < big.descriptor.size;
    expect(events).toHaveLength(isBroken ? 1 : 0);
    expect(origin.front.bytes()).toBe(big.descriptor.size - at);
  });

  it.each(places)('at byte %s of the blob is continued within a range', async (at) => {
    const { near, origin, registry } = await pair();
    await push(origin.content, 'a', big);
    const { digest } = big.descriptor;
    near.front.interfere(forBlob(digest), breaksAt(big, at));
    for (const [start, end] of [
      [0, 70_000],
      [65_000, 2_000_001],
      [1_000_000, undefined],
    ] as const) {
      const reader = await registry.getBlobRange('a', digest, start, end);
      expect(reader.descriptor.size).toBe(big.descriptor.size);
      expect((await readAll(reader)).equals(big.bytes.subarray(start, end))).toBe(true);
    }
  });

  it('is continued as often as there are endpoints', async () => {
    const all = await Promise.all(['one', 'two', 'three', 'four'].map((name) => endpoint(name)));
    const { digest } = big.descriptor;
    for (const [i, { front, content: stored }] of all.entries()) {
      if (i < 3) front.interfere(forBlob(digest), breaksAt(big, (i + 1) * 500_000));
      else await push(stored, 'a', big);
    }
    expect(digestOf(await readAll(await mirror(all).getBlob('a', digest)))).toBe(digest);
    expect(all.map(({ front }) => front.bytes())).toEqual([500_000, 500_000, 500_000, 1_500_000]);
    await expect(mirror(all.slice(0, 3)).getBlob('a', digest).then(readAll)).rejects.toMatchObject({
      code: 'TRUNCATED',
      message: expect.stringMatching(/^three: .*one: .*two: /),
    });
  });

  it('is not continued with a blob of another size', async () => {
    const { near, origin, registry } = await pair();
    const { digest } = big.descriptor;
    near.front.interfere(forBlob(digest), breaksAt(big, 1_000));
    origin.front.interfere(forBlob(digest), breaksAt(content(3_000_001), 3_000_001));
    await expect(registry.getBlob('a', digest).then(readAll)).rejects.toMatchObject({
      code: 'RESPONSE_INVALID',
      message: expect.stringContaining('has 3000001 bytes, and 3000000'),
    });
  });

  it('fails when what was given out turns out to be wrong, and the next read is spared that endpoint', async () => {
    const { near, origin, registry } = await pair();
    await push(origin.content, 'a', big);
    const { digest } = big.descriptor;
    near.front.interfere(forBlob(digest), breaksAt(content(3_000_000), 3_000_000));
    await expect(registry.getBlob('a', digest).then(readAll)).rejects.toMatchObject({ code: 'DIGEST_INVALID' });
    near.front.forget();
    expect(digestOf(await readAll(await registry.getBlob('a', digest)))).toBe(digest);
    expect(near.front.requests).toEqual([]);
  });

  it('fails when the part that came before the break was wrong', async () => {
    const { near, origin, registry } = await pair();
    await push(origin.content, 'a', big);
    const { digest } = big.descriptor;
    near.front.interfere(forBlob(digest), breaksAt(content(3_000_000), 1_000_000));
    await expect(registry.getBlob('a', digest).then(readAll)).rejects.toMatchObject({ code: 'DIGEST_INVALID' });
  });
});

describe('an endpoint that fails', () => {
  it('is left out for a time that doubles up to a limit, until it works once', async () => {
    let time = 0;
    const { near, origin, registry } = await pair({ cooldownMs: 1_000, maxCooldownMs: 3_000, now: () => time });
    const blob = content(1_000);
    for (const { content: stored } of [near, origin]) await push(stored, 'a', blob);
    let heal = near.front.interfere(everything, answer(503));
    /** Whether the mirror is asked when `ms` have gone by. */
    const isAskedAfter = async (ms: number) => {
      time += ms;
      near.front.forget();
      expect(await readAll(await registry.getBlob('a', blob.descriptor.digest))).toEqual(blob.bytes);
      return near.front.requests.length > 0;
    };
    expect(await isAskedAfter(0)).toBe(true);
    for (const cooldown of [1_000, 2_000, 3_000, 3_000]) {
      expect(await isAskedAfter(cooldown - 1)).toBe(false);
      expect(await isAskedAfter(1)).toBe(true);
    }
    heal();
    expect(await isAskedAfter(3_000)).toBe(true);
    expect(await isAskedAfter(0)).toBe(true);
    heal = near.front.interfere(everything, answer(429, { 'retry-after': '2' }));
    expect(await isAskedAfter(0)).toBe(true);
    heal();
    expect(await isAskedAfter(1_999)).toBe(false);
    expect(await isAskedAfter(1)).toBe(true);
  });

  it('is asked nevertheless for what no other has', async () => {
    const { near, origin, registry } = await pair({ now: () => 0 });
    const blob = content(1_000);
    await push(near.content, 'a', blob);
    const heals = [near, origin].map(({ front }) => front.interfere(everything, answer(503)));
    await expect(registry.resolveBlob('a', blob.descriptor.digest)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    for (const heal of heals) heal();
    expect((await registry.resolveBlob('a', blob.descriptor.digest)).size).toBe(1_000);
  });

  it('is not one that merely lacks something', async () => {
    const { near, origin, registry } = await pair({ now: () => 0 });
    const blob = content(1_000);
    await push(origin.content, 'a', blob);
    for (let i = 0; i < 3; i += 1) await registry.resolveBlob('a', blob.descriptor.digest);
    expect(near.front.requests).toHaveLength(3);
  });
});

describe('a write to a mirror', () => {
  it('goes on only as long as nothing was sent', async () => {
    const { near, origin, registry } = await pair({ cooldownMs: 0 });
    const blob = content(5_000);
    near.front.interfere(everything, answer(503));
    await push(registry, 'a', blob);
    expect((await origin.content.resolveBlob('a', blob.descriptor.digest)).size).toBe(5_000);
    const upload = await registry.pushBlobChunked('a', undefined);
    await upload.cancel();
    origin.front.forget();
    await expect(registry.pushManifest('a', 'x', Buffer.from('{}'), 'a/b')).rejects.toMatchObject({
      code: 'UNAVAILABLE',
    });
    await expect(registry.deleteBlob('a', blob.descriptor.digest)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    expect(origin.front.requests).toEqual([]);
  });

  it('stays where its bytes went', async () => {
    const { near, origin, registry } = await pair();
    near.front.interfere(
      (request) => request.method === 'PATCH' || request.method === 'PUT',
      (request, response) => void request.once('data', () => response.destroy()),
    );
    const blob = content(500_000);
    let opened = 0;
    const source = () => {
      opened += 1;
      return streamOf(blob.bytes);
    };
    await expect(registry.pushBlob('a', blob.descriptor, source)).rejects.toMatchObject({ code: 'UNREACHABLE' });
    expect(opened).toBe(1);
    expect(origin.front.requests).toEqual([]);
  });

  it('is resumed at the endpoint where it was begun', async () => {
    const { near, origin, registry } = await pair();
    const heal = near.front.interfere(everything, answer(503));
    const blob = content(5_000);
    const upload = await registry.pushBlobChunked('a', undefined);
    await upload.write(blob.bytes.subarray(0, 2_000));
    await upload.close();
    heal();
    const resumed = await registry.resumeBlob('a', upload.id, 2_000);
    expect(resumed.id).toBe(upload.id);
    await resumed.write(blob.bytes.subarray(2_000));
    await resumed.commit(blob.descriptor.digest);
    expect(await readAll(await origin.content.getBlob('a', blob.descriptor.digest))).toEqual(blob.bytes);
    for (const id of ['', 'x', '7.x', '0', '0.'])
      await expect(registry.resumeBlob('a', id, 0)).rejects.toMatchObject({ code: 'BLOB_UPLOAD_UNKNOWN' });
  });
});

describe('a cache before a mirror', () => {
  it('does not take a mirror that lacks a tag for its end', async () => {
    const { origin, registry } = await pair();
    const store: Registry = new DirRegistry(tempDir());
    const cache = pullThrough(registry, store, { tagTtlMs: 0 });
    onTestFinished(() => cache.close());
    const { manifest } = await pushImage(origin.content, 'a', 'v1');
    await cache.resolveTag('a', 'v1');
    await origin.front.close();
    expect(await cache.resolveTag('a', 'v1')).toEqual(manifest.descriptor);
    expect(await store.resolveTag('a', 'v1')).toEqual(manifest.descriptor);
  });
});
