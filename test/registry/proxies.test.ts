// Proxies from the environment: which requests they get, and real ones in between.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import * as fc from 'fast-check';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { parseProxy, proxyFromVariables } from '../../src/registry/client/proxy.ts';
import { DirRegistry } from '../../src/registry/dir-registry.ts';
import { RemoteRegistry } from '../../src/registry/remote-registry.ts';
import type { RemoteRegistryOptions } from '../../src/registry/remote-registry.ts';
import { TestAuthority } from '../support/certificates.ts';
import { startFaultyRegistry } from '../support/faulty-registry.ts';
import type { FaultyRegistry } from '../support/faulty-registry.ts';
import { content, push, readAll } from '../support/registry-content.ts';
import { startTestProxy } from '../support/test-proxy.ts';
import type { TestProxy } from '../support/test-proxy.ts';
import { serveRegistry } from '../../src/registry/serve-registry.ts';
import type { RegistryServer } from '../../src/registry/serve-registry.ts';
import { keptTempDir } from '../support/tmp.ts';

describe('the choice of a proxy', () => {
  const choose = (url: string, noProxy: string) =>
    proxyFromVariables({ httpProxy: 'plain:1', httpsProxy: 'http://secure:2', noProxy })(new URL(url))?.host;

  it('goes by the scheme of the request', () => {
    expect(choose('http://registry.example/', '')).toBe('plain:1');
    expect(choose('https://registry.example/', '')).toBe('secure:2');
    expect(proxyFromVariables({ httpProxy: 'plain:1' })(new URL('https://registry.example'))).toBeUndefined();
    expect(proxyFromVariables({})(new URL('https://registry.example'))).toBeUndefined();
  });

  it.each<[string, string, boolean]>([
    ['https://registry.example', '*', true],
    ['https://registry.example', 'other.example, registry.example', true],
    ['https://registry.example', 'other.example registry.example', true],
    ['https://REGISTRY.example.', 'Registry.Example', true],
    ['https://sub.registry.example', 'registry.example', true],
    ['https://myregistry.example', 'registry.example', false],
    ['https://registry.example', '.registry.example', false],
    ['https://sub.registry.example', '.registry.example', true],
    ['https://sub.registry.example', '*.registry.example', true],
    ['https://registry.example', '*.registry.example', false],
    ['https://registry.example:5000', 'registry.example:5000', true],
    ['https://registry.example:5001', 'registry.example:5000', false],
    ['https://registry.example', 'registry.example:443', true],
    ['http://registry.example', 'registry.example:443', false],
    ['http://registry.example', 'registry.example:80', true],
    ['https://10.1.2.3', '10.1.0.0/16', true],
    ['https://10.2.2.3', '10.1.0.0/16', false],
    ['https://10.1.2.3:5000', '10.1.2.3:5000', true],
    ['https://10.1.2.3', '1.2.3', false],
    ['https://[fd00::1]:5000', 'fd00::/8', true],
    ['https://[fd00::1]', 'fd00::1', true],
    ['https://[fd00::1]:5000', '[fd00::1]:5000', true],
    ['https://[fd00::1]:5001', '[fd00::1]:5000', false],
    ['https://registry.example', '', false],
    ['https://registry.example', ', ,:5000,10.0.0.0/99,/8', false],
    ['http://localhost:5000', '', true],
    ['http://127.0.0.1:5000', '', true],
    ['http://127.8.8.8', '', true],
    ['http://[::1]:5000', '', true],
  ])('for %s with NO_PROXY %s is direct: %s', (url, noProxy, direct) => {
    expect(choose(url, noProxy) === undefined).toBe(direct);
  });

  it('is made for any NO_PROXY', () => {
    fc.assert(
      fc.property(
        fc.string(),
        fc.constantFrom('http://10.0.0.1', 'https://[fd00::1]:1', 'https://a.example'),
        (noProxy, url) => {
          choose(url, noProxy);
        },
      ),
    );
  });

  it('spares exactly the hosts that are named', () => {
    fc.assert(
      fc.property(fc.array(fc.domain(), { maxLength: 5 }), fc.domain(), (names, host) => {
        const spared = names.some((name) => name === host || host.endsWith(`.${name}`));
        expect(choose(`https://${host}`, names.join(',')) === undefined).toBe(spared);
      }),
    );
  });

  it.each([
    'ftp://proxy:1',
    'http://',
    'http://proxy/path',
    'http://proxy?q',
    'socks5://u:s3cret@proxy:1',
    'http://u:s3cret@ proxy',
  ])('refuses %s without repeating it', (text) => {
    expect(() => parseProxy(text, 'HTTPS_PROXY')).toThrow(
      'HTTPS_PROXY: expected the address of a proxy, like http://proxy:3128',
    );
  });
});

describe('a request through a proxy', () => {
  const blob = content(300_000);
  const dir = keptTempDir();
  const authority = new TestAuthority(dir.path);
  const certificate = authority.issue('registry', 'DNS:registry.example');
  const opened: { close(): Promise<void> }[] = [];
  const once = { attempts: 1, baseMs: 1, maxMs: 1, maxRetryAfterMs: 1 };
  let backend: RegistryServer;
  let secure: FaultyRegistry;
  let proxy: TestProxy;

  beforeAll(async () => {
    const store = new DirRegistry(path.join(dir.path, 'store'));
    await push(store, 'a/b', blob);
    backend = await serveRegistry(store);
    secure = await startFaultyRegistry(backend.url, undefined, certificate.pems);
    proxy = await startTestProxy();
  });
  afterEach(async () => {
    proxy.refuse = undefined;
    proxy.silent = false;
    for (const one of opened.splice(0)) await one.close();
  });
  afterAll(async () => {
    await proxy.close();
    await secure.close();
    await backend.close();
    dir[Symbol.dispose]();
  });

  function client(port: string | undefined, address: string, options: Partial<RemoteRegistryOptions> = {}) {
    const registry = new RemoteRegistry({
      host: `registry.example:${port}`,
      tls: { caFiles: [authority.caFile] },
      proxy: proxyFromVariables({ httpProxy: address, httpsProxy: address }),
      ...options,
    });
    opened.push(registry);
    return registry;
  }
  const portOf = (host: string) => host.split(':')[1];
  const range = (registry: RemoteRegistry) =>
    registry.getBlobRange('a/b', blob.descriptor.digest, 5, 105).then(readAll);

  it('with TLS is a tunnel in which the name of the registry is checked', async () => {
    const registry = client(portOf(secure.host), proxy.host);
    for (let i = 0; i < 3; i += 1) expect(await range(registry)).toEqual(blob.bytes.subarray(5, 105));
    const tunnel = `CONNECT registry.example:${portOf(secure.host)}`;
    expect(new Set(proxy.requests)).toEqual(new Set([tunnel]));
    const stranger = client(portOf(secure.host), proxy.host, { tls: {}, backoff: once });
    await expect(range(stranger)).rejects.toMatchObject({ code: 'UNTRUSTED' });
  });

  it('without TLS is sent as a whole URL, pushes too', async () => {
    const registry = client(portOf(backend.host), `http://${proxy.host}`, { plainHttp: true });
    expect(await range(registry)).toEqual(blob.bytes.subarray(5, 105));
    expect(proxy.requests.at(-1)).toBe(
      `GET http://registry.example:${portOf(backend.host)}/v2/a/b/blobs/${blob.descriptor.digest}`,
    );
    const other = content(200_000);
    await push(registry, 'a/c', other);
    expect(await readAll(await registry.getBlob('a/c', other.descriptor.digest))).toEqual(other.bytes);
  });

  it.each([true, false])('sends the user of the address, and no message names him (TLS: %s)', async (tls) => {
    const options = tls ? {} : { plainHttp: true };
    const address = `http://me:s3%40cret@${proxy.host}`;
    const port = portOf(tls ? secure.host : backend.host);
    expect(await range(client(port, address, options))).toHaveLength(100);
    expect(proxy.authorizations.at(-1)).toBe(`Basic ${Buffer.from('me:s3@cret').toString('base64')}`);
    await proxy.close();
    const error: unknown = await range(client(port, address, { ...options, backoff: once })).catch(
      (failure) => failure,
    );
    expect(error).toMatchObject({
      code: 'UNREACHABLE',
      message: expect.stringContaining(`through the proxy http://${proxy.host}`),
    });
    expect(JSON.stringify(error, Object.getOwnPropertyNames(error))).not.toContain('s3');
    proxy = await startTestProxy();
  });

  it.each([true, false])('that is refused says with what (TLS: %s)', async (tls) => {
    proxy.refuse = 407;
    const options = { backoff: once, plainHttp: !tls };
    await expect(range(client(portOf((tls ? secure : backend).host), proxy.host, options))).rejects.toMatchObject({
      code: 'UNREACHABLE',
      message: expect.stringContaining('the proxy answered 407, it wants a user and password'),
    });
  });

  it.each([true, false])('that speaks TLS must be trusted, whoever the registry may be (TLS: %s)', async (tls) => {
    const tlsProxy = await startFaultyRegistry(undefined, undefined, authority.issue('proxy').pems);
    opened.push(tlsProxy);
    const options = { backoff: once, plainHttp: !tls };
    const stranger = client('1', tlsProxy.url, { ...options, tls: { skipVerify: true } });
    await expect(range(stranger)).rejects.toMatchObject({ code: 'UNTRUSTED' });
    expect(tlsProxy.requests).toEqual([]);
    const known = { caFiles: [authority.caFile], skipVerify: true };
    const trusting = client('1', tlsProxy.url, { ...options, tls: known });
    await expect(range(trusting)).rejects.toMatchObject({ code: tls ? 'UNREACHABLE' : 'BLOB_UNKNOWN' });
  });

  it('to which the proxy hangs up is sent once', async () => {
    let connections = 0;
    const rude = createServer().on('connect', (_request, socket) => {
      connections += 1;
      socket.destroy();
    });
    await new Promise<void>((resolve) => rude.listen(0, '127.0.0.1', resolve));
    const address = `http://127.0.0.1:${(rude.address() as AddressInfo).port}`;
    await expect(range(client('1', address, { backoff: once }))).rejects.toMatchObject({ code: 'UNREACHABLE' });
    expect(connections).toBe(1);
    rude.close();
  });

  it('that is never answered ends after the time limit', async () => {
    proxy.silent = true;
    const options = { backoff: once, http: { headersTimeoutMs: 300 } };
    await expect(range(client(portOf(secure.host), proxy.host, options))).rejects.toMatchObject({ code: 'TIMEOUT' });
  });
});
