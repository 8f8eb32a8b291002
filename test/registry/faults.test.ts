// What a registry may do wrong, each with its own error and never with a wrong byte.
import { connect } from 'node:net';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { DirRegistry } from '../../src/registry/dir-registry.ts';
import { RemoteRegistry } from '../../src/registry/remote-registry.ts';
import type { RemoteRegistryOptions } from '../../src/registry/remote-registry.ts';
import { serveRegistry } from '../../src/registry/serve-registry.ts';
import type { RegistryServer } from '../../src/registry/serve-registry.ts';
import { firstTimes, startFaultyRegistry } from '../support/faulty-registry.ts';
import type { Fault, FaultyRegistry } from '../support/faulty-registry.ts';
import { content, listAll, push, pushImage, readAll, streamOf } from '../support/registry-content.ts';
import { keptTempDir } from '../support/tmp.ts';

const blob = content(3_000_000);
const { digest } = blob.descriptor;
const slept: number[] = [];
const quick = { timer: { random: () => 0, sleep: async (ms: number) => void slept.push(ms) } };
const once = { backoff: { attempts: 1, baseMs: 1, maxMs: 1, maxRetryAfterMs: 1 } };
const blobPath = /\/blobs\/sha256/;

let backend: RegistryServer;
let proxy: FaultyRegistry;
let warnings: string[] = [];
const dir = keptTempDir();
const clients: RemoteRegistry[] = [];

function client(options: Partial<RemoteRegistryOptions> = {}): RemoteRegistry {
  const registry = new RemoteRegistry({
    host: proxy.host,
    ...quick,
    onWarning: (text) => void warnings.push(text),
    ...options,
  });
  clients.push(registry);
  return registry;
}

beforeAll(async () => {
  backend = await serveRegistry(new DirRegistry(dir.path));
  proxy = await startFaultyRegistry(backend.url);
  const direct = new RemoteRegistry({ host: backend.host });
  await push(direct, 'a/b', blob);
  await pushImage(direct, 'a/b', 'v1');
  await direct.close();
});
afterEach(async () => {
  proxy.fault = () => false;
  warnings = [];
  slept.length = 0;
  for (const registry of clients.splice(0)) await registry.close();
});
afterAll(async () => {
  await proxy.close();
  await backend.close();
  dir[Symbol.dispose]();
});

function answer(status: number, headers: Record<string, string | number> = {}, body: string | Buffer = ''): Fault {
  return (_request: IncomingMessage, response: ServerResponse) => {
    response.writeHead(status, headers).end(body);
    return true;
  };
}

/** Announces `announced` bytes and cuts the connection after `sent`. */
function cut(status: number, headers: Record<string, string | number>, sent: Buffer): Fault {
  return (_request, response) => {
    response.writeHead(status, headers);
    response.write(sent, () => response.destroy());
    return true;
  };
}

const range = (start: number, end: number | undefined) =>
  client(once).getBlobRange('a/b', digest, start, end).then(readAll);
const partial = (from: number, to: number, total: number | '*' = blob.bytes.length) => ({
  'content-range': `bytes ${from}-${to - 1}/${total}`,
  'content-length': to - from,
});

describe('a range request', () => {
  it.each<[string, Fault, string, string]>([
    [
      'a 200 far from the start',
      answer(200, { 'content-length': blob.bytes.length }, blob.bytes),
      'RANGE_INVALID',
      'ignores ranges',
    ],
    [
      'a content-range at another place',
      answer(206, partial(0, 100), blob.bytes.subarray(0, 100)),
      'RANGE_INVALID',
      'answered with bytes 0-99',
    ],
    [
      'a range that begins earlier',
      answer(206, partial(1_999_999, 2_000_100), Buffer.alloc(101)),
      'RANGE_INVALID',
      'answered with bytes 1999999-2000099',
    ],
    [
      'a shorter range',
      answer(206, partial(2_000_000, 2_000_050), Buffer.alloc(50)),
      'RANGE_INVALID',
      'answered with bytes 2000000-2000049',
    ],
    [
      'a longer range',
      answer(206, partial(2_000_000, 2_000_200), Buffer.alloc(200)),
      'RANGE_INVALID',
      'answered with bytes 2000000-2000199',
    ],
    [
      'no content-range',
      answer(206, { 'content-length': 100 }, Buffer.alloc(100)),
      'RANGE_INVALID',
      'without a valid content-range',
    ],
    [
      'several ranges',
      answer(206, { 'content-type': 'multipart/byteranges; boundary=x' }, '--x'),
      'RANGE_INVALID',
      'without a valid content-range',
    ],
    [
      'a length that does not fit',
      answer(206, { ...partial(2_000_000, 2_000_100), 'content-length': 99 }, Buffer.alloc(99)),
      'RANGE_INVALID',
      'content-length of 99',
    ],
    ['a body that ends early', cut(206, partial(2_000_000, 2_000_100), Buffer.alloc(10)), 'TRUNCATED', 'ended'],
    [
      'a body that ends early without a length',
      answer(206, { 'content-range': `bytes 2000000-2000099/${blob.bytes.length}` }, Buffer.alloc(60)),
      'TRUNCATED',
      'ended after 60 of 100',
    ],
    [
      'a compressed body',
      answer(206, { ...partial(2_000_000, 2_000_100), 'content-encoding': 'gzip' }, Buffer.alloc(100)),
      'RESPONSE_INVALID',
      'content-encoding gzip',
    ],
    ['416', answer(416), 'RANGE_INVALID', 'not satisfiable'],
    ['401', answer(401, { 'www-authenticate': 'Basic realm="x"' }), 'UNAUTHORIZED', 'authentication required'],
    ['403', answer(403), 'DENIED', 'access denied'],
    ['404', answer(404), 'BLOB_UNKNOWN', 'not found'],
    ['429', answer(429, { 'retry-after': '7' }), 'TOOMANYREQUESTS', 'too many requests'],
    ['500', answer(500), 'UNAVAILABLE', '500'],
    [
      '503 with words',
      answer(503, {}, JSON.stringify({ errors: [{ code: 'X', message: 'come\u001b[31m back' }] })),
      'UNAVAILABLE',
      'come [31m back',
    ],
    ['no http at all', rawAnswer('SSH-2.0-OpenSSH_9.2\r\n\r\n'), 'RESPONSE_INVALID', 'not http'],
    ['nothing', (_request, response) => (response.destroy(), true), 'UNREACHABLE', 'blobs/sha256'],
    [
      'a redirect to nowhere',
      answer(307, { location: 'http://[' }),
      'RESPONSE_INVALID',
      'redirect without a valid location',
    ],
    ['a redirect to a file', answer(307, { location: 'file:///etc/passwd' }), 'RESPONSE_INVALID', 'not secure'],
  ])('answered with %s is an error', async (_name, fault, code, message) => {
    proxy.fault = fault;
    await expect(range(2_000_000, 2_000_100)).rejects.toMatchObject({
      name: 'RegistryError',
      code,
      message: expect.stringContaining(message),
    });
  });

  it('answered with chunks longer than announced is an error', async () => {
    proxy.fault = (_request, response) => {
      response.writeHead(206, {
        'content-range': `bytes 2000000-2000099/${blob.bytes.length}`,
        'transfer-encoding': 'chunked',
      });
      response.write(Buffer.alloc(60));
      setTimeout(() => response.end(Buffer.alloc(60)), 10);
      return true;
    };
    await expect(range(2_000_000, 2_000_100)).rejects.toMatchObject({
      code: 'RESPONSE_INVALID',
      message: expect.stringContaining('longer'),
    });
  });

  it('answered with all of it is skipped forward when that is not far', async () => {
    proxy.fault = answer(200, { 'content-length': blob.bytes.length }, blob.bytes);
    expect(await range(1_000_000, 1_000_100)).toEqual(blob.bytes.subarray(1_000_000, 1_000_100));
    expect(await range(0, 10)).toEqual(blob.bytes.subarray(0, 10));
    expect(warnings[0]).toContain('ignores ranges');
  });

  it('with an unknown total takes the size from elsewhere', async () => {
    proxy.fault = firstTimes(1, /^GET/, answer(206, partial(100, 200, '*'), blob.bytes.subarray(100, 200)));
    const reader = await client(once).getBlobRange('a/b', digest, 100, 200);
    expect(reader.descriptor.size).toBe(blob.bytes.length);
    expect(await readAll(reader)).toEqual(blob.bytes.subarray(100, 200));
  });

  it('that never gets an answer ends after the time limit', async () => {
    proxy.fault = () => true;
    await expect(
      client({ ...once, http: { headersTimeoutMs: 300 } }).getBlobRange('a/b', digest, 0, 1),
    ).rejects.toMatchObject({ code: 'TIMEOUT' });
  });

  it('whose body stalls ends after the time limit', async () => {
    proxy.fault = (_request, response) => {
      response.writeHead(206, partial(0, 100));
      response.write(Buffer.alloc(10));
      return true;
    };
    const reader = await client({ ...once, http: { bodyTimeoutMs: 300 } }).getBlobRange('a/b', digest, 0, 100);
    await expect(readAll(reader)).rejects.toMatchObject({ code: 'TIMEOUT' });
  });

  it('that stalls is ended at once by its signal and by close()', async () => {
    proxy.fault = (_request, response) => {
      response.writeHead(206, partial(0, 100));
      response.write(Buffer.alloc(10));
      return true;
    };
    const controller = new AbortController();
    const reader = await client(once).getBlobRange('a/b', digest, 0, 100, { signal: controller.signal });
    setTimeout(() => controller.abort(new Error('stop')), 20);
    await expect(readAll(reader)).rejects.toThrow('stop');
    const other = await client(once).getBlobRange('a/b', digest, 0, 100);
    const closed = new Promise((resolve) => void other.body.once('close', resolve));
    other.close();
    await closed;
  });
});

describe('retries', () => {
  it('continue a blob where its connection broke, and verify the whole', async () => {
    let cuts = 0;
    proxy.fault = (request, response) => {
      if (!blobPath.test(request.url ?? '') || cuts === 3) return false;
      const start = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
      cuts += 1;
      const total = blob.bytes.length;
      const headers = start === 0 ? { 'content-length': total } : partial(start, total);
      return cut(start === 0 ? 200 : 206, headers, blob.bytes.subarray(start, start + 70_000))(request, response);
    };
    const before = proxy.requests.length;
    expect((await readAll(await client().getBlob('a/b', digest))).equals(blob.bytes)).toBe(true);
    expect(cuts).toBe(3);
    expect(proxy.requests.length - before).toBe(4);
  });

  it('give up on a blob that makes no progress', async () => {
    proxy.fault = cut(206, partial(10, 100), Buffer.alloc(0));
    const before = proxy.requests.length;
    await expect(client().getBlobRange('a/b', digest, 10, 100).then(readAll)).rejects.toMatchObject({
      code: 'TRUNCATED',
    });
    expect(proxy.requests.length - before).toBe(5);
  });

  it('notice a blob that is not what its digest says', async () => {
    const other = Buffer.from(blob.bytes);
    other[1_234_567] = (other[1_234_567] ?? 0) ^ 1;
    proxy.fault = answer(200, { 'content-length': other.length }, other);
    await expect(client().getBlob('a/b', digest).then(readAll)).rejects.toMatchObject({ code: 'DIGEST_INVALID' });
  });

  it.each([408, 429, 500, 502, 503, 504])('try again after %s', async (status) => {
    proxy.fault = firstTimes(2, blobPath, answer(status));
    expect(await readAll(await client().getBlobRange('a/b', digest, 5, 10))).toEqual(blob.bytes.subarray(5, 10));
  });

  it.each([400, 401, 403, 404, 410, 416])('do not try again after %s', async (status) => {
    proxy.fault = answer(status);
    const before = proxy.requests.length;
    await expect(client().getBlobRange('a/b', digest, 5, 10)).rejects.toThrow('blob sha256:');
    expect(proxy.requests.length - before).toBe(1);
  });

  it('wait as long as Retry-After says, but not for ever', async () => {
    proxy.fault = firstTimes(1, blobPath, answer(429, { 'retry-after': '3' }));
    await client().getBlobRange('a/b', digest, 5, 10).then(readAll);
    expect(slept).toEqual([3_000]);
    proxy.fault = answer(429, { 'retry-after': '3600' });
    await expect(client().getBlobRange('a/b', digest, 5, 10)).rejects.toMatchObject({
      code: 'TOOMANYREQUESTS',
      retryAfterMs: 3_600_000,
    });
  });

  it('are not made while a registry stores what it has received', async () => {
    const slow = content(1_000);
    proxy.fault = async ({ method }) => {
      if (method === 'PUT') await delay(900);
      return false;
    };
    const registry = client({ http: { headersTimeoutMs: 200, storeTimeoutMs: 30_000 } });
    await push(registry, 'a/b', slow);
    expect(
      proxy.requests.filter(
        (request) => request.startsWith('PUT') && request.includes(slow.descriptor.digest.slice(7)),
      ),
    ).toHaveLength(1);
  });

  it('push a blob again from the start', async () => {
    const other = content(500_000);
    let opened = 0;
    proxy.fault = firstTimes(2, /^PUT .*\/uploads\//, (_request, response) => (response.destroy(), true));
    await client().pushBlob('a/b', other.descriptor, () => {
      opened += 1;
      return streamOf(other.bytes);
    });
    expect(opened).toBe(3);
    expect((await readAll(await client().getBlob('a/b', other.descriptor.digest))).equals(other.bytes)).toBe(true);
  });

  it('end when the registry is not there', async () => {
    const gone = new RemoteRegistry({ host: '127.0.0.1:1', ...quick });
    await expect(gone.resolveTag('a/b', 'v1')).rejects.toMatchObject({
      code: 'UNREACHABLE',
      message: expect.stringContaining('ECONNREFUSED'),
    });
    expect(slept).toHaveLength(4);
    await gone.close();
  });
});

describe('documents', () => {
  it.each<[string, Fault, string, string]>([
    [
      'more than 4 MiB',
      answer(200, { 'content-type': 'application/vnd.oci.image.manifest.v1+json' }, Buffer.alloc(5_000_000, 0x20)),
      'TOO_LARGE',
      'more than 4194304',
    ],
    ['another digest than it says', answer(200, { 'docker-content-digest': digest }, '{}'), 'DIGEST_INVALID', digest],
    ['a connection that breaks', cut(200, { 'content-length': 100 }, Buffer.from('{')), 'TRUNCATED', 'ended early'],
    ['404 in HTML', answer(404, { 'content-type': 'text/html' }, '<html>'), 'MANIFEST_UNKNOWN', 'not found'],
    [
      '404 of the repository',
      answer(404, {}, '{"errors":[{"code":"NAME_UNKNOWN","message":"no such name"}]}'),
      'NAME_UNKNOWN',
      'no such name',
    ],
    [
      'an endless redirect',
      answer(302, { location: '/v2/a/b/manifests/v1' }),
      'RESPONSE_INVALID',
      'more than 10 redirects',
    ],
    ['204', answer(204), 'RESPONSE_INVALID', '204'],
  ])('answer a manifest with %s', async (_name, fault, code, message) => {
    proxy.fault = fault;
    await expect(client(once).getTag('a/b', 'v1')).rejects.toMatchObject({
      code,
      message: expect.stringContaining(message),
    });
  });

  it.each<[string, string, string]>([
    ['garbage', '<html>', 'RESPONSE_INVALID'],
    ['a text', '"tags"', 'ok'],
    ['tags that are numbers', '{"tags":[1]}', 'RESPONSE_INVALID'],
    ['null', '{"tags":null}', 'ok'],
    ['too much', `{"tags":["${'x'.repeat(17_000_000)}"]}`, 'TOO_LARGE'],
  ])('answer the list of tags with %s', async (_name, body, code) => {
    proxy.fault = answer(200, { 'content-type': 'application/json' }, body);
    const tags = listAll(client(once).tags('a/b'));
    if (code === 'ok') expect(await tags).toEqual([]);
    else await expect(tags).rejects.toMatchObject({ code });
  });

  it.each<[string, string, string]>([
    ['garbage', 'nonsense', 'RESPONSE_INVALID'],
    ['a manifest', '{"schemaVersion":2,"config":{},"layers":[]}', 'RESPONSE_INVALID'],
    ['too much', ' '.repeat(5_000_000), 'TOO_LARGE'],
  ])('answer the referrers with %s', async (_name, body, code) => {
    proxy.fault = answer(200, { 'content-type': 'application/vnd.oci.image.index.v1+json' }, body);
    await expect(listAll(client(once).referrers('a/b', digest))).rejects.toMatchObject({ code });
  });

  it('follow no list to another host, and no list for ever', async () => {
    const page = (link: string): Fault => answer(200, { 'content-type': 'application/json', link }, '{"tags":["a"]}');
    proxy.fault = page('<http://127.0.0.1:1/v2/a/b/tags/list?last=a>; rel="next"');
    expect(await listAll(client(once).tags('a/b'))).toEqual(['a']);
    proxy.fault = page('</v2/a/b/tags/list?last=a>; rel="next"');
    expect(await listAll(client(once).tags('a/b'))).toEqual(['a']);
  });

  it('come with warnings, which are told once', async () => {
    proxy.fault = (request, response) => {
      response.setHeader('warning', '299 - "this tag is \\"old\\""');
      return answer(404)(request, response);
    };
    const registry = client(once);
    for (let i = 0; i < 3; i += 1) await expect(registry.resolveTag('a/b', 'v1')).rejects.toThrow('not found');
    expect(warnings).toEqual([`${proxy.host} warns: this tag is "old"`]);
  });

  it('resolve without a digest header by reading the manifest', async () => {
    const direct = new RemoteRegistry({ host: backend.host });
    const expected = await direct.resolveTag('a/b', 'v1');
    await direct.close();
    proxy.fault = firstTimes(1, /^HEAD/, answer(200, { 'content-type': expected.mediaType }));
    expect(await client(once).resolveTag('a/b', 'v1')).toEqual(expected);
    proxy.fault = firstTimes(1, /^HEAD/, answer(405));
    expect(await client(once).resolveTag('a/b', 'v1')).toEqual(expected);
  });
});

/** Takes the connection over and writes something that is not an answer. */
function rawAnswer(text: string): Fault {
  return (request) => {
    request.socket.end(text);
    return true;
  };
}

describe('the embedded server', () => {
  it('survives clients that hang up, and counts what it sent', async () => {
    const socket = connect(backend.port, '127.0.0.1');
    await new Promise<void>((resolve) => void socket.once('connect', resolve));
    socket.write(`GET /v2/a/b/blobs/${digest} HTTP/1.1\r\nHost: x\r\n\r\n`);
    await new Promise<void>((resolve) => void socket.once('data', () => resolve()));
    socket.destroy();
    while (backend.stats.log.at(-1)?.durationMs === 0) await delay(5);
    backend.stats.reset();
    const direct = new RemoteRegistry({ host: backend.host });
    await direct.getBlobRange('a/b', digest, 0, 1_000).then(readAll);
    await direct.getBlobRange('a/b', digest, 5_000, 5_500).then(readAll);
    await direct.close();
    expect(backend.stats.byDigest.get(digest)).toEqual({ requests: 2, bytes: 1_500 });
    expect(backend.stats.blobBytes).toBe(1_500);
    expect(backend.stats.log.map(({ status, range: asked }) => [status, asked])).toEqual([
      [206, 'bytes=0-999'],
      [206, 'bytes=5000-5499'],
    ]);
  });
});
