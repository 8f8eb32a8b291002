// How requests get through: redirects to signed URLs, retries and their end, HTTP/2, what the registry says of its limits.
import { createSecureServer } from 'node:http2';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import * as fc from 'fast-check';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { parseRateLimit } from '../../src/registry/client/rate-limit.ts';
import { DirRegistry } from '../../src/registry/dir-registry.ts';
import { RemoteRegistry } from '../../src/registry/remote-registry.ts';
import type { RemoteRegistryOptions } from '../../src/registry/remote-registry.ts';
import { serveRegistry } from '../../src/registry/serve-registry.ts';
import type { RegistryServer } from '../../src/registry/serve-registry.ts';
import { TestAuthority } from '../support/certificates.ts';
import { firstTimes, startFaultyRegistry } from '../support/faulty-registry.ts';
import type { Fault, FaultyRegistry } from '../support/faulty-registry.ts';
import { content, push, pushImage, readAll, streamOf } from '../support/registry-content.ts';
import { keptTempDir } from '../support/tmp.ts';

const blob = content(400_000);
const { digest } = blob.descriptor;
const dir = keptTempDir();
const slept: number[] = [];
const timer = { random: () => 0, sleep: async (ms: number) => void slept.push(ms) };
const once = { attempts: 1, baseMs: 1, maxMs: 1, maxRetryAfterMs: 1 };
const opened: { close(): Promise<void> }[] = [];

let backend: RegistryServer;
let front: FaultyRegistry;

beforeAll(async () => {
  backend = await serveRegistry(new DirRegistry(dir.path));
  front = await startFaultyRegistry(backend.url);
  const direct = new RemoteRegistry({ host: backend.host });
  await push(direct, 'a/b', blob);
  await pushImage(direct, 'a/b', 'v1');
  await direct.close();
});
afterEach(async () => {
  front.fault = () => false;
  slept.length = 0;
  for (const one of opened.splice(0)) await one.close();
});
afterAll(async () => {
  await front.close();
  await backend.close();
  dir[Symbol.dispose]();
});

function client(options: Partial<RemoteRegistryOptions> = {}): RemoteRegistry {
  const registry = new RemoteRegistry({ host: front.host, timer, ...options });
  opened.push(registry);
  return registry;
}

const answer =
  (status: number, headers: Record<string, string | number> = {}, body: string | Buffer = ''): Fault =>
  (_request, response) => {
    response.writeHead(status, headers).end(body);
    return true;
  };

/** An object store that takes only the newest signature, and the registry in front of it that signs. */
async function objectStore(refusal: Fault = answer(403)) {
  const state = { signature: 1, refusals: 0, cutAfter: undefined as number | undefined };
  const store = await startFaultyRegistry(undefined, async (request, response) => {
    const url = new URL(request.url ?? '', 'http://store');
    if (url.searchParams.get('signature') !== String(state.signature)) {
      state.refusals += 1;
      return await refusal(request, response);
    }
    const [, first, last] = /bytes=(\d+)-(\d*)/.exec(request.headers.range ?? '') ?? [];
    const [start, end] = [Number(first ?? 0), last ? Number(last) + 1 : blob.bytes.length];
    const range = { 'content-range': `bytes ${start}-${end - 1}/${blob.bytes.length}` };
    response.writeHead(first === undefined ? 200 : 206, {
      'content-length': end - start,
      ...(first === undefined ? {} : range),
    });
    const { cutAfter } = state;
    if (cutAfter === undefined) response.end(blob.bytes.subarray(start, end));
    else response.write(blob.bytes.subarray(start, start + cutAfter), () => response.destroy());
    return true;
  });
  opened.push(store);
  front.fault = (request, response) => {
    if (request.method !== 'GET' || !request.url?.includes('/blobs/sha256')) return false;
    const location = `${store.url}/object?signature=${state.signature}&secret=s3cret`;
    response.writeHead(307, { location }).end();
    return true;
  };
  return { state, store };
}

describe('a redirect to a signed URL', () => {
  const range = (registry: RemoteRegistry, at: number) =>
    registry.getBlobRange('a/b', digest, at, at + 1_000).then(readAll);

  it('is remembered, and the credentials stay at home', async () => {
    const { store } = await objectStore();
    const headers = { 'x-api-key': 'mine' };
    const registry = client({ headers });
    const before = front.requests.length;
    for (const at of [0, 5_000, 9_000]) expect(await range(registry, at)).toEqual(blob.bytes.subarray(at, at + 1_000));
    expect(front.requests.length - before).toBe(1);
    expect(front.headers.at(-1)).toMatchObject(headers);
    expect(store.requests).toHaveLength(3);
    for (const sent of store.headers) {
      expect(sent).not.toHaveProperty('authorization');
      expect(sent).not.toHaveProperty('x-api-key');
    }
  });

  it.each<[string, Fault]>([
    ['400', answer(400, {}, '<Error><Code>ExpiredToken</Code></Error>')],
    ['401', answer(401)],
    ['403', answer(403)],
    ['404', answer(404)],
    ['410', answer(410)],
    ['a cut connection', (_request, response) => (response.destroy(), true)],
  ])(
    'that has expired, told by %s, is asked for again within the read, for many reads at once',
    async (_name, refusal) => {
      const { state } = await objectStore(refusal);
      const registry = client({ backoff: once });
      await range(registry, 0);
      for (let round = 0; round < 3; round += 1) {
        state.signature += 1;
        const reads = Array.from({ length: 12 }, (_, i) => range(registry, i * 10_000));
        for (const [i, bytes] of (await Promise.all(reads)).entries())
          expect(bytes).toEqual(blob.bytes.subarray(i * 10_000, i * 10_000 + 1_000));
      }
      expect(state.refusals).toBeGreaterThanOrEqual(3);
      expect(slept).toEqual([]);
    },
  );

  it('that expires while the body breaks is asked for again, and the blob is whole', async () => {
    const { state, store } = await objectStore();
    const reader = await (async () => {
      state.cutAfter = 150_000;
      return await client().getBlob('a/b', digest);
    })();
    state.signature += 1;
    state.cutAfter = undefined;
    expect((await readAll(reader)).equals(blob.bytes)).toBe(true);
    expect(store.requests.length).toBeGreaterThanOrEqual(3);
  });

  it('leaves no trace of its query in an error', async () => {
    const { state } = await objectStore();
    const registry = client({ backoff: once });
    front.fault = answer(307, { location: `${backend.url}/x?secret=s3cret` });
    const failures = [await range(registry, 0).catch((error: unknown) => error)];
    front.fault = answer(307, { location: 'http://127.0.0.1:1/x?secret=s3cret' });
    failures.push(await range(registry, 0).catch((error: unknown) => error));
    front.fault = answer(307, { location: 'ftp://127.0.0.1/x?secret=s3cret' });
    failures.push(await range(registry, 0).catch((error: unknown) => error));
    for (const error of failures) {
      expect(error).toMatchObject({ name: 'RegistryError' });
      expect((error as Error).message).not.toContain('s3cret');
    }
    expect(state.refusals).toBe(0);
  });
});

describe('a redirect of an upload', () => {
  it.each([307, 308])('with %s opens the body again, and ends the first', async (status) => {
    const other = content(3_000_000);
    const sources: Readable[] = [];
    front.fault = firstTimes(1, /^PUT .*uploads/, (request, response) => {
      response.writeHead(status, { location: `${backend.url}${request.url}` }).end();
      return true;
    });
    await client({ backoff: once }).pushBlob('a/b', other.descriptor, () => {
      const source = streamOf(other.bytes);
      sources.push(source);
      return source;
    });
    expect(sources).toHaveLength(2);
    await delay(20);
    expect(sources.every(({ destroyed }) => destroyed)).toBe(true);
    const direct = new RemoteRegistry({ host: backend.host });
    opened.push(direct);
    expect((await readAll(await direct.getBlob('a/b', other.descriptor.digest))).equals(other.bytes)).toBe(true);
  });

  it('applies to the start of one, to its chunks and to manifests', async () => {
    front.fault = (request, response) => {
      if (!['POST', 'PATCH', 'PUT'].includes(request.method ?? '')) return false;
      response.writeHead(307, { location: `${backend.url}${request.url}` }).end();
      return true;
    };
    const registry = client({ backoff: once });
    const other = content(300_000);
    const writer = await registry.pushBlobChunked('a/b', 100_000);
    for (let at = 0; at < other.bytes.length; at += 60_000) await writer.write(other.bytes.subarray(at, at + 60_000));
    await writer.commit(other.descriptor.digest);
    await pushImage(registry, 'a/b', 'redirected');
    front.fault = () => false;
    expect((await readAll(await registry.getBlob('a/b', other.descriptor.digest))).equals(other.bytes)).toBe(true);
  });
});

describe('retries', () => {
  it.each<[string, RegExp, (registry: RemoteRegistry) => Promise<unknown>]>([
    ['a HEAD', /^HEAD/, (registry) => registry.resolveTag('a/b', 'v1')],
    ['a GET', /^GET/, (registry) => registry.getTag('a/b', 'v1')],
    ['the start of an upload', /^POST/, (registry) => registry.pushBlobChunked('a/b', undefined)],
    ['an upload', /^PUT/, (registry) => push(registry, 'a/b', content(100))],
    ['a manifest', /^PUT .*manifests/, (registry) => pushImage(registry, 'a/b', 'again')],
    [
      'a DELETE',
      /^DELETE/,
      async (registry) => registry.deleteTag('a/b', (await pushImage(registry, 'a/b', 'x'), 'x')),
    ],
  ])('wait as long as Retry-After says before %s', async (_name, pattern, call) => {
    front.fault = firstTimes(1, pattern, answer(429, { 'retry-after': '2' }));
    await call(client());
    expect(slept).toEqual([2_000]);
  });

  it('take a 404 for success when a DELETE before it may have been done', async () => {
    const registry = client();
    await pushImage(registry, 'a/b', 'gone');
    front.fault = firstTimes(1, /^DELETE/, async (request, response) => {
      await fetch(`${backend.url}${request.url}`, { method: 'DELETE' });
      response.destroy();
      return true;
    });
    await registry.deleteTag('a/b', 'gone');
    expect(slept).toHaveLength(1);
    await expect(registry.deleteTag('a/b', 'gone')).rejects.toMatchObject({ code: 'MANIFEST_UNKNOWN' });
    front.fault = firstTimes(1, /^DELETE/, answer(429));
    await expect(registry.deleteTag('a/b', 'gone')).rejects.toMatchObject({ code: 'MANIFEST_UNKNOWN' });
  });

  it.each([501, 505])('do not follow %s', async (status) => {
    front.fault = answer(status);
    const before = front.requests.length;
    await expect(client().getTag('a/b', 'v1')).rejects.toMatchObject({ code: 'UNSUPPORTED', status });
    expect(front.requests.length - before).toBe(1);
  });

  it('end with the deadline', async () => {
    front.fault = answer(503, { 'retry-after': '3' });
    const backoff = { attempts: 10, baseMs: 1, maxMs: 1, maxRetryAfterMs: 60_000, deadlineMs: 2_000 };
    const before = front.requests.length;
    await expect(client({ backoff }).getTag('a/b', 'v1')).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    expect(front.requests.length - before).toBe(1);
  });

  it('of many requests together end, and come back with the first success', async () => {
    const registry = client({ backoff: { attempts: 5, baseMs: 1, maxMs: 1, maxRetryAfterMs: 1 } });
    front.fault = answer(503);
    let before = front.requests.length;
    const rounds = 100;
    for (let i = 0; i < rounds; i += 1) await registry.resolveTag('a/b', 'v1').catch(() => {});
    expect(front.requests.length - before).toBe(rounds + 200);
    front.fault = () => false;
    for (let i = 0; i < 4; i += 1) await registry.resolveTag('a/b', 'v1');
    front.fault = answer(503);
    before = front.requests.length;
    await registry.resolveTag('a/b', 'v1').catch(() => {});
    expect(front.requests.length - before).toBe(5);
  });

  it('of a blob that comes in drops end too', async () => {
    front.fault = (request, response) => {
      const start = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
      const total = blob.bytes.length;
      const range = start === 0 ? {} : { 'content-range': `bytes ${start}-${total - 1}/${total}` };
      response.writeHead(start === 0 ? 200 : 206, { 'content-length': total - start, ...range });
      response.write(blob.bytes.subarray(start, start + 100), () => response.destroy());
      return true;
    };
    const before = front.requests.length;
    await expect(client().getBlob('a/b', digest).then(readAll)).rejects.toMatchObject({ code: 'TRUNCATED' });
    expect(front.requests.length - before).toBe(5);
  });
});

describe('HTTP/2', () => {
  const authority = new TestAuthority(dir.path);

  async function start() {
    const versions: string[] = [];
    const sockets = new Set<Socket>();
    const { cert, key } = authority.issue('h2').pems;
    const server = createSecureServer({ allowHTTP1: true, cert, key }, (request, response) => {
      versions.push(request.httpVersion);
      const fail = () => response.destroy();
      forward(request as unknown as IncomingMessage, response as unknown as ServerResponse).catch(fail);
    });
    server.on('secureConnection', (socket) => void sockets.add(socket));
    await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
    opened.push({
      close: async () => {
        for (const socket of sockets) socket.destroy();
        await new Promise((resolve) => void server.close(resolve));
      },
    });
    return { host: `127.0.0.1:${(server.address() as AddressInfo).port}`, versions, sockets };
  }

  async function forward(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
    const names = ['range', 'accept', 'content-type', 'content-range'];
    const headers = Object.fromEntries(
      names.flatMap((name) => [[name, String(request.headers[name] ?? '')]]).filter(([, value]) => value !== ''),
    );
    const body = ['POST', 'PUT', 'PATCH'].includes(request.method ?? '') ? { body: Buffer.concat(chunks) } : {};
    const answered = await fetch(`${backend.url}${request.url}`, { method: request.method ?? '', headers, ...body });
    const { connection: _, 'keep-alive': __, 'transfer-encoding': ___, ...kept } = Object.fromEntries(answered.headers);
    response.writeHead(answered.status, kept);
    response.end(Buffer.from(await answered.arrayBuffer()));
  }

  it.each([true, false])('is spoken only when allowed (%s): ranges, blobs, pushes', async (allowH2) => {
    const { host, versions } = await start();
    const registry = client({ host, plainHttp: false, tls: { caFiles: [authority.caFile] }, http: { allowH2 } });
    const other = content(150_000);
    await push(registry, 'a/h2', other);
    const reads = Array.from({ length: 20 }, (_, i) =>
      registry.getBlobRange('a/b', digest, i * 100, i * 100 + 1_000).then(readAll),
    );
    for (const [i, bytes] of (await Promise.all(reads)).entries())
      expect(bytes).toEqual(blob.bytes.subarray(i * 100, i * 100 + 1_000));
    expect((await readAll(await registry.getBlob('a/h2', other.descriptor.digest))).equals(other.bytes)).toBe(true);
    expect(new Set(versions)).toEqual(new Set([allowH2 ? '2.0' : '1.1']));
  });

  it('whose connection breaks is connected again', async () => {
    const { host, sockets } = await start();
    const registry = client({ host, plainHttp: false, tls: { caFiles: [authority.caFile] }, http: { allowH2: true } });
    await registry.resolveTag('a/b', 'v1');
    for (const socket of sockets) socket.destroy();
    expect(await registry.getBlobRange('a/b', digest, 0, 10).then(readAll)).toEqual(blob.bytes.subarray(0, 10));
  });
});

describe('the endpoint of a mirror', () => {
  it('is asked below its own root, for the registry it stands in for', async () => {
    front.fault = (request) => {
      request.url = request.url?.replace('/hub/api', '/v2') ?? '';
      return false;
    };
    const registry = client({ baseUrl: new URL(`${front.url}/hub/api/`), namespace: 'registry.example:5000' });
    const before = front.requests.length;
    await registry.getTag('a/b', 'v1');
    await registry.getBlobRange('a/b', digest, 0, 10).then(readAll);
    for await (const _ of registry.referrers('a/b', digest)) break;
    expect(front.requests.slice(before)).toEqual([
      'GET /hub/api/a/b/manifests/v1?ns=registry.example%3A5000',
      `GET /hub/api/a/b/blobs/${digest}?ns=registry.example%3A5000`,
      `GET /hub/api/a/b/referrers/${digest}?ns=registry.example%3A5000`,
    ]);
  });
});

describe('the rate limit', () => {
  it.each<[Record<string, string>, object | undefined]>([
    [
      { 'ratelimit-limit': '100;w=21600', 'ratelimit-remaining': '76;w=21600', 'docker-ratelimit-source': '192.0.2.1' },
      { limit: 100, remaining: 76, windowSeconds: 21_600, source: '192.0.2.1' },
    ],
    [
      { 'x-ratelimit-limit': '60', 'x-ratelimit-remaining': '0' },
      { limit: 60, remaining: 0 },
    ],
    [
      { 'ratelimit-limit': '10, 10;w=1, 1000;w=3600', 'ratelimit-remaining': '9' },
      { limit: 10, remaining: 9 },
    ],
    [
      { 'ratelimit-limit': '100 ; w=60', 'ratelimit-remaining': ' 5 ' },
      { limit: 100, remaining: 5, windowSeconds: 60 },
    ],
    [
      { 'ratelimit-limit': '1', 'ratelimit-remaining': '1', 'docker-ratelimit-source': 'a\u001bb' },
      { source: undefined },
    ],
    [{ 'ratelimit-limit': '100' }, undefined],
    [{ 'ratelimit-limit': 'many', 'ratelimit-remaining': '5' }, undefined],
    [{ 'ratelimit-limit': '-1', 'ratelimit-remaining': '5' }, undefined],
    [{}, undefined],
  ])('is read from %j', (headers, expected) => {
    const parsed = parseRateLimit((name) => headers[name]);
    if (expected === undefined) expect(parsed).toBeUndefined();
    else expect(parsed).toMatchObject(expected);
  });

  it('is read from any text without failing', () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (limit, remaining) => {
        const headers: Record<string, string> = { 'ratelimit-limit': limit, 'ratelimit-remaining': remaining };
        const parsed = parseRateLimit((name) => headers[name]);
        expect(parsed === undefined || Number.isSafeInteger(parsed.limit)).toBe(true);
      }),
    );
  });

  it('is what the registry said last, refusals included, and not what others say', async () => {
    const registry = client({ backoff: once });
    expect(registry.rateLimit).toBeUndefined();
    const limits = (remaining: number) => ({
      'ratelimit-limit': '100;w=60',
      'ratelimit-remaining': `${remaining};w=60`,
    });
    front.fault = answer(429, limits(0));
    await registry.getTag('a/b', 'v1').catch(() => {});
    expect(registry.rateLimit).toMatchObject({ limit: 100, remaining: 0, windowSeconds: 60 });
    front.fault = () => false;
    await registry.getTag('a/b', 'v1');
    expect(registry.rateLimit).toMatchObject({ remaining: 0 });
    const store = await startFaultyRegistry(undefined, answer(200, limits(50), '{}'));
    opened.push(store);
    front.fault = answer(307, { location: store.url });
    await registry.getTag('a/b', 'v1').catch(() => {});
    expect(registry.rateLimit).toMatchObject({ remaining: 0 });
  });
});
