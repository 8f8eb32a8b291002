// What the embedded server does beside the distribution spec, which test/conformance/distribution asks of it.
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { connect } from 'node:net';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Readable } from 'node:stream';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import type { Descriptor } from '../../src/oci/descriptor.ts';
import type { Digest } from '../../src/oci/digest.ts';
import { BaseRegistry } from '../../src/registry/base-registry.ts';
import { funcs } from '../../src/registry/funcs.ts';
import { DirRegistry } from '../../src/registry/dir-registry.ts';
import { RegistryError } from '../../src/registry/errors.ts';
import type { BlobReader, BlobWriter, CallOptions, Registry } from '../../src/registry/interface.ts';
import { MemoryRegistry } from '../../src/registry/memory-registry.ts';
import { RemoteRegistry } from '../../src/registry/remote-registry.ts';
import { serveRegistry } from '../../src/registry/serve-registry.ts';
import type { RegistryServer, ServeOptions } from '../../src/registry/serve-registry.ts';
import type { RequestRecord } from '../../src/registry/server/server-stats.ts';
import { Deferred } from '../../src/util/deferred.ts';
import { untilAborted } from '../../src/util/until-aborted.ts';
import { content, push, pushImage } from '../support/registry-content.ts';
import { tempDir } from '../support/tmp.ts';

const blob = content(2_048);
const { digest } = blob.descriptor;
const blobPath = `/v2/a/blobs/${digest}`;

async function serving(registry: Registry, options: ServeOptions = {}): Promise<RegistryServer> {
  const server = await serveRegistry(registry, options);
  onTestFinished(async () => await server.close());
  return server;
}

/** Knows one blob, and gives its bytes when `release` says so. */
class SlowRegistry extends BaseRegistry {
  readonly asked = new Deferred<void>();
  readonly release = new Deferred<void>();

  override resolveBlob(): Promise<Descriptor> {
    return Promise.resolve(blob.descriptor);
  }

  override async getBlob(_repository: string, _digest: Digest, options: CallOptions = {}): Promise<BlobReader> {
    this.asked.resolve();
    await untilAborted(this.release.promise, options.signal);
    return { descriptor: blob.descriptor, body: Readable.from([blob.bytes], { objectMode: false }), close: () => {} };
  }
}

describe('any registry', () => {
  it('is served, and its failures tell nothing of the inside', async () => {
    class Generated extends BaseRegistry {
      override resolveBlob(_repository: string, wanted: Digest): Promise<Descriptor> {
        if (wanted.endsWith('2')) throw new RegistryError('CONFIG_INVALID', '/secret/path: not valid toml');
        return wanted.endsWith('0')
          ? Promise.reject(new Error('/secret/path'))
          : Promise.resolve({ mediaType: 'a/b', digest: wanted, size: 2 ** 40 });
      }
    }
    const failures: unknown[] = [];
    const server = await serving(new Generated(), {
      listen: '[::1]:0',
      onError: (error) => void failures.push(error),
    });
    expect(server.url).toMatch(/^http:\/\/\[::1\]:\d+$/);
    const head = await fetch(`${server.url}/v2/a/blobs/sha256:${'1'.repeat(64)}`, { method: 'HEAD' });
    expect(head.headers.get('content-length')).toBe(String(2 ** 40));
    for (const [digit, code] of [
      ['0', 'UNKNOWN'],
      ['2', 'CONFIG_INVALID'],
    ] as const) {
      const failed = await fetch(`${server.url}/v2/a/blobs/sha256:${digit.repeat(64)}`);
      expect([failed.status, await failed.text()]).toEqual([
        500,
        `{"errors":[{"code":"${code}","message":"internal error"}]}`,
      ]);
    }
    expect(failures).toHaveLength(2);
  });

  it.each([
    ['less', 2_000],
    ['more', 2_100],
  ])('is cut off when it gives %s than it announced', async (_what, length) => {
    class Wrong extends SlowRegistry {
      override getBlob(): Promise<BlobReader> {
        const body = Readable.from([Buffer.alloc(1_000), Buffer.alloc(length - 1_000)]);
        return Promise.resolve({ descriptor: blob.descriptor, body, close: () => {} });
      }
    }
    const server = await serving(new Wrong());
    const answer = fetch(server.url + blobPath).then((response) => response.arrayBuffer());
    await expect(answer).rejects.toThrow(TypeError);
    expect(server.stats.blobBytes).toBeLessThanOrEqual(2_000);
  });

  it.each(['CREDENTIALS_INVALID', 'CONFIG_INVALID', 'UNKNOWN'] as const)(
    'tells its clients of %s that there is one, and its owner all of it',
    async (code) => {
      const failure = new RegistryError(code, '/root/.docker/config.json: damaged', { detail: '/root' });
      const failures: unknown[] = [];
      const onError = (error: unknown) => void failures.push(error);
      const server = await serving(funcs({ resolveBlob: () => Promise.reject(failure) }), { onError });
      const answer = await fetch(server.url + blobPath);
      expect([answer.status, await answer.json()]).toEqual([500, { errors: [{ code, message: 'internal error' }] }]);
      expect(failures).toEqual([failure]);
    },
  );

  it('is 405 with what else there is where it does not support a method', async () => {
    const server = await serving(new BaseRegistry());
    const answer = await fetch(server.url + blobPath, { method: 'DELETE' });
    expect([answer.status, answer.headers.get('allow')]).toEqual([405, 'GET, HEAD']);
    expect((await fetch(`${server.url}/v2/a/tags/list`)).status).toBe(405);
  });

  it.each(['', '80', 'host', 'host:99999', 'a:b:c', '[::1]'])('is not served at %j', async (listen) => {
    await expect(serveRegistry(new BaseRegistry(), { listen })).rejects.toThrow(TypeError);
  });

  it('says that an address is taken, and leaves nothing open then', async () => {
    const server = await serving(new BaseRegistry(), { metrics: '127.0.0.1:0' });
    const metrics = new URL(server.metricsUrl ?? '').host;
    await expect(serveRegistry(new BaseRegistry(), { listen: server.host })).rejects.toMatchObject({
      code: 'EADDRINUSE',
    });
    await expect(serveRegistry(new BaseRegistry(), { metrics })).rejects.toMatchObject({ code: 'EADDRINUSE' });
  });
});

describe('a page of referrers', () => {
  it('leaves out none when the one before it is gone', async () => {
    const registry = new MemoryRegistry();
    const server = await serving(registry, { maxPageSize: 1 });
    const { manifest: subject } = await pushImage(registry, 'a', 'v1');
    for (const _ of [1, 2, 3]) await pushImage(registry, 'a', undefined, { subject: subject.descriptor });
    const address = `${server.url}/v2/a/referrers/${subject.descriptor.digest}`;
    const first = await fetch(address);
    const next = /<(.+)>/.exec(first.headers.get('link') ?? '')?.[1] ?? '';
    const digestsOf = async (page: Response) =>
      ((await page.json()) as { manifests: Descriptor[] }).manifests.map((listed) => listed.digest);
    const [gone, ...others] = await digestsOf(first);
    expect(others).toEqual([]);
    await registry.deleteManifest('a', gone as Digest);
    const second = await fetch(server.url + next);
    expect(second.headers.get('link')).toMatch(/rel="next"/);
    expect(await digestsOf(second)).toHaveLength(1);
  });
});

describe('uploads', () => {
  it('takes no session that it did not give out', async () => {
    const inner = await serving(new DirRegistry(tempDir()));
    const client = new RemoteRegistry({ host: inner.host });
    onTestFinished(async () => await client.close());
    await pushImage(client, 'other', 'v1');
    const proxy = await serving(client);
    for (const id of [
      '../../../etc/passwd',
      `${inner.url}/v2/other/manifests/v1`,
      `${inner.url}/v2%2fother/manifests/v1`,
      `${inner.url}/v2/a/blobs/uploads/../../../other/manifests/v1`,
      'http://127.0.0.1:1/v2/a/blobs/uploads/x',
    ]) {
      const path = `/v2/a/blobs/uploads/${Buffer.from(id).toString('base64url')}`;
      for (const { url } of [inner, proxy]) {
        for (const method of ['GET', 'DELETE'])
          expect((await fetch(url + path, { method })).status, `${method} ${id}`).toBe(404);
      }
    }
    expect((await fetch(`${inner.url}/v2/other/manifests/v1`)).status).toBe(200);
  });

  it('cuts off a client that falls silent, and keeps what it sent', async () => {
    const server = await serving(new DirRegistry(tempDir()), { idleTimeoutMs: 200 });
    const session = await fetch(`${server.url}/v2/a/blobs/uploads/`, { method: 'POST' });
    const path = session.headers.get('location') ?? '';
    const upload = request(server.url + path, { method: 'PATCH', headers: { 'content-length': 2_048 } });
    upload.write(blob.bytes.subarray(0, 1_000));
    const [error] = (await once(upload, 'error')) as [NodeJS.ErrnoException];
    expect(error.code).toBe('ECONNRESET');
    await expect
      .poll(async () => (await fetch(server.url + path)).headers.get('range'), { timeout: 10_000 })
      .toBe('0-999');
  });

  it.each([
    ['a directory', () => new DirRegistry(tempDir())],
    ['memory', () => new MemoryRegistry()],
  ])('tells the slower of two that send one chunk to %s where it stands', async (_what, make) => {
    const server = await serving(make());
    const session = await fetch(`${server.url}/v2/a/blobs/uploads/`, { method: 'POST' });
    const target = session.headers.get('location') ?? '';
    const headers = { 'content-range': '0-3' };
    const send = () => fetch(server.url + target, { method: 'PATCH', headers, body: 'abcd' });
    const answers = await Promise.all([send(), send()]);
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([202, 416]));
    for (const answer of answers) {
      expect(answer.headers.get('range')).toBe('0-3');
      expect(answer.headers.get('location')).toBe(target);
    }
  });

  it('leaves nothing of a blob in one request that cannot be stored', async () => {
    const root = tempDir();
    // A file where the folder of blobs belongs.
    mkdirSync(join(root, 'repositories/a'), { recursive: true });
    writeFileSync(join(root, 'repositories/a/_blobs'), '');
    const server = await serving(new DirRegistry(root));
    const answer = await fetch(`${server.url}/v2/a/blobs/uploads/?digest=${digest}`, {
      method: 'POST',
      body: blob.bytes,
    });
    expect(answer.ok).toBe(false);
    expect(readdirSync(join(root, 'repositories/a/_uploads'))).toEqual([]);
  });

  it('answers the next request on a connection whose body it stopped reading', async () => {
    class Full extends BaseRegistry {
      override pushBlobChunked(): Promise<BlobWriter> {
        const write = () => Promise.reject(new RegistryError('DENIED', 'the store is full'));
        const nothing = () => Promise.resolve();
        return Promise.resolve({
          id: 'x',
          size: 0,
          chunkSize: 1,
          write,
          close: nothing,
          commit: write,
          cancel: nothing,
        });
      }
    }
    const server = await serving(new Full());
    const socket = connect(server.port, '127.0.0.1');
    onTestFinished(() => void socket.destroy());
    let answers = '';
    socket.on('data', (bytes: Buffer) => (answers += bytes.toString('latin1')));
    const size = 4 * 1024 * 1024;
    const head = (line: string, length: number) => `${line} HTTP/1.1\r\nhost: x\r\ncontent-length: ${length}\r\n\r\n`;
    socket.write(head(`POST /v2/a/blobs/uploads/?digest=${digest}`, size));
    socket.write(Buffer.alloc(size));
    socket.write(head('GET /v2/', 0));
    await expect
      .poll(() => answers.match(/HTTP\/1\.1 \d+/g), { timeout: 5_000 })
      .toEqual(['HTTP/1.1 403', 'HTTP/1.1 200']);
  });

  it('refuses a body it does not want before it is sent', async () => {
    const server = await serving(new DirRegistry(tempDir()));
    const upload = request(`${server.url}/v2/Upper/blobs/uploads/`, {
      method: 'POST',
      headers: { 'content-length': 10, expect: '100-continue' },
    });
    let told = false;
    upload.once('continue', () => (told = true));
    upload.flushHeaders();
    const [answer] = (await once(upload, 'response')) as [{ statusCode: number; headers: Record<string, string> }];
    expect([answer.statusCode, answer.headers['connection'], told]).toEqual([400, 'close', false]);
    upload.destroy();
  });
});

describe('redirects', () => {
  class Elsewhere extends BaseRegistry {
    readonly #urls: readonly string[];

    constructor(...urls: readonly string[]) {
      super();
      this.#urls = urls;
    }

    override resolveBlob(): Promise<Descriptor> {
      return Promise.resolve({ ...blob.descriptor, urls: this.#urls });
    }
  }

  it('sends a reader to the first http address of a blob, and its ranges too', async () => {
    const store = new DirRegistry(tempDir());
    await push(store, 'a', blob);
    const far = await serving(store);
    const near = await serving(new Elsewhere('ftp://127.0.0.1/x', `${far.url}${blobPath}?signed=1`, 'http://other/'));
    const answer = await fetch(near.url + blobPath, { redirect: 'manual' });
    expect([answer.status, answer.headers.get('location')]).toEqual([307, `${far.url}${blobPath}?signed=1`]);
    const head = await fetch(near.url + blobPath, { method: 'HEAD', redirect: 'manual' });
    expect([head.status, head.headers.get('content-length')]).toEqual([200, '2048']);
    const client = new RemoteRegistry({ host: near.host });
    onTestFinished(async () => await client.close());
    const { body } = await client.getBlobRange('a', digest, 10, 20);
    expect(Buffer.concat(await body.toArray())).toEqual(blob.bytes.subarray(10, 20));
  });

  it('does not when it is told not to, or has no http address', async () => {
    const forbidden = await serving(new Elsewhere('http://127.0.0.1:1/'), { redirects: false });
    const none = await serving(new Elsewhere('ftp://127.0.0.1/x'));
    for (const { url } of [forbidden, none]) expect((await fetch(url + blobPath)).status).toBe(405);
  });
});

describe('what every answer has', () => {
  it('warns where it is asked to', async () => {
    const server = await serving(new BaseRegistry(), { warning: 'moves to "new\\place"' });
    for (const path of ['/v2/', '/nowhere', '/v2/A/tags/list'])
      expect((await fetch(server.url + path)).headers.get('warning')).toBe('299 - "moves to \\"new\\\\place\\""');
    const warnings: string[] = [];
    const client = new RemoteRegistry({ host: server.host, onWarning: (text) => void warnings.push(text) });
    await client.ping();
    await client.close();
    expect(warnings).toEqual([`${server.host} warns: moves to "new\\place"`]);
  });

  it.each(['two\r\nlines', 'ключ', 'x'.repeat(4_096)])(
    'does not start with a warning that cannot be sent',
    async (warning) => {
      await expect(serveRegistry(new BaseRegistry(), { warning })).rejects.toThrow(TypeError);
    },
  );

  it('serves the registry of the host that a client names with ns', async () => {
    const [own, hub] = [new DirRegistry(tempDir()), new DirRegistry(tempDir())];
    await pushImage(own, 'a', 'own');
    await pushImage(hub, 'a', 'hub');
    const server = await serving(own, { namespaces: (host) => (host === 'docker.io' ? hub : undefined) });
    const ask = (path: string) => fetch(`${server.url}/v2/a/${path}`);
    const proxied = await ask('manifests/hub?ns=docker.io');
    expect([proxied.status, proxied.headers.get('oci-namespace')]).toEqual([200, 'docker.io']);
    const plain = await ask('manifests/own');
    expect([plain.status, plain.headers.get('oci-namespace')]).toEqual([200, null]);
    const unknown = await ask('manifests/own?ns=quay.io');
    expect([unknown.status, unknown.headers.get('oci-namespace')]).toEqual([404, null]);
    const ignoring = await serving(own);
    expect((await fetch(`${ignoring.url}/v2/a/manifests/own?ns=quay.io`)).status).toBe(200);
  });
});

describe('limits', () => {
  it('answers 429 with Retry-After above its limit of requests, and serves again below it', async () => {
    const slow = new SlowRegistry();
    const server = await serving(slow, { maxRequests: 1 });
    const first = fetch(server.url + blobPath);
    await slow.asked.promise;
    const second = await fetch(`${server.url}/v2/`);
    expect([second.status, second.headers.get('retry-after')]).toEqual([429, '1']);
    expect(await second.json()).toMatchObject({ errors: [{ code: 'TOOMANYREQUESTS' }] });
    slow.release.resolve();
    expect(Buffer.from(await (await first).arrayBuffer())).toEqual(blob.bytes);
    expect((await fetch(`${server.url}/v2/`)).status).toBe(200);
  });

  it('forgets requests that waited behind another one when their client leaves', async () => {
    const registry = new SlowRegistry();
    const server = await serving(registry, { maxRequests: 5 });
    const client = connect(server.port, '127.0.0.1').on('error', () => {});
    client.write(`GET ${blobPath} HTTP/1.1\r\nHost: x\r\n\r\n${'GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(20)}`);
    await vi.waitFor(() => expect(server.stats.requests).toBe(21));
    expect((await fetch(`${server.url}/v2/`)).status).toBe(429);
    client.destroy();
    await vi.waitFor(async () => expect((await fetch(`${server.url}/v2/`)).status).toBe(200));
    registry.release.resolve();
  });

  it('cuts off a client that takes nothing of its answer, and waits for a slow registry', async () => {
    class Endless extends SlowRegistry {
      override resolveBlob(): Promise<Descriptor> {
        return Promise.resolve({ ...blob.descriptor, size: 2 ** 40 });
      }

      override getBlobRange(): Promise<BlobReader> {
        const piece = Buffer.alloc(1024 * 1024);
        const body = new Readable({ read: () => void body.push(piece) });
        return Promise.resolve({ descriptor: blob.descriptor, body, close: () => {} });
      }

      override resolveTag(): Promise<Descriptor> {
        return delay(500, blob.descriptor);
      }
    }
    const server = await serving(new Endless(), { idleTimeoutMs: 100 });
    const client = connect(server.port, '127.0.0.1').on('error', () => {});
    client.pause().write(`GET ${blobPath} HTTP/1.1\r\nHost: x\r\nRange: bytes=0-\r\n\r\n`);
    const record = () => server.stats.log.find(({ kind }) => kind === 'blob');
    await expect.poll(() => record()?.durationMs, { timeout: 10_000 }).toBeGreaterThan(0);
    expect(record()).toMatchObject({ status: 206 });
    const slow = await fetch(`${server.url}/v2/a/manifests/t`, { method: 'HEAD' });
    expect(slow.status).toBe(200);
    client.destroy();
  });

  it('closes connections above its limit', async () => {
    const server = await serving(new BaseRegistry(), { maxConnections: 1 });
    const first = connect(server.port, '127.0.0.1');
    onTestFinished(() => void first.destroy());
    await once(first, 'connect');
    const second = connect(server.port, '127.0.0.1');
    await once(second, 'close');
    expect(first.destroyed).toBe(false);
  });

  it('answers a request for a whole URL', async () => {
    const server = await serving(new BaseRegistry());
    const client = connect(server.port, '127.0.0.1').setEncoding('latin1');
    client.write('GET http://somewhere/v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
    const [answer] = (await once(client, 'data')) as [string];
    expect(answer).toMatch(/^HTTP\/1\.1 200 /);
    client.destroy();
  });

  it('refuses headers that are too large', async () => {
    const server = await serving(new BaseRegistry());
    const answer = await fetch(`${server.url}/v2/`, { headers: { 'x-large': 'x'.repeat(20_000) } });
    expect(answer.status).toBe(431);
  });

  it('gives a manifest so many tags and no more', async () => {
    const server = await serving(new DirRegistry(tempDir()));
    const query = Array.from({ length: 101 }, (_, i) => `tag=t${i}`).join('&');
    const answer = await fetch(`${server.url}/v2/a/manifests/${digest}?${query}`, { method: 'PUT', body: '{}' });
    expect([answer.status, await answer.text()]).toEqual([400, expect.stringContaining('101 tags')]);
  });
});

describe('closing', () => {
  it('lets what is under way end, and takes nothing new', async () => {
    const slow = new SlowRegistry();
    const server = await serving(slow);
    const answer = fetch(server.url + blobPath);
    await slow.asked.promise;
    const closed = server.close({ graceMs: 60_000 });
    await expect(fetch(`${server.url}/v2/`)).rejects.toThrow('fetch failed');
    slow.release.resolve();
    expect(Buffer.from(await (await answer).arrayBuffer())).toEqual(blob.bytes);
    await closed;
    await server.close();
  });

  it('cuts what takes longer than it may', async () => {
    const slow = new SlowRegistry();
    const server = await serving(slow);
    const answer = fetch(server.url + blobPath);
    const failure = expect(answer).rejects.toThrow('fetch failed');
    await slow.asked.promise;
    await server.close({ graceMs: 1 });
    await failure;
  });

  it('waits until the registry has let go of what was cut', async () => {
    const asked = new Deferred<void>();
    let isWorking = true;
    const work = async (_repository: string, _digest: Digest, { signal }: CallOptions = {}): Promise<never> => {
      asked.resolve();
      await untilAborted(new Promise(() => {}), signal).catch(() => {});
      await delay(100);
      isWorking = false;
      throw new Error('gone');
    };
    const server = await serving(funcs({ resolveBlob: work }));
    const failure = expect(fetch(server.url + blobPath)).rejects.toThrow('fetch failed');
    await asked.promise;
    await server.close();
    expect(isWorking).toBe(false);
    await failure;
  });

  it('does not wait for connections that are only kept', async () => {
    const server = await serving(new BaseRegistry());
    await (await fetch(`${server.url}/v2/`)).text();
    await server.close({ graceMs: 60_000 });
  });
});

describe('the account of requests', () => {
  it('has what was asked, sent and received', async () => {
    const records: RequestRecord[] = [];
    const server = await serving(new DirRegistry(tempDir()), { onRequest: (record) => void records.push(record) });
    await fetch(`${server.url}/v2/a/blobs/uploads/?digest=${digest}`, { method: 'POST', body: blob.bytes });
    await (await fetch(server.url + blobPath, { headers: { range: 'bytes=0-9' } })).arrayBuffer();
    await expect.poll(() => records.length).toBe(2);
    expect(records).toMatchObject([
      { method: 'POST', kind: 'uploads', status: 201, received: 2_048, bytes: 0, digest: undefined },
      { method: 'GET', kind: 'blob', status: 206, received: 0, bytes: 10, digest, range: 'bytes=0-9' },
    ]);
    expect(server.stats.byDigest.get(digest)).toEqual({ requests: 1, bytes: 10 });
  });
});
