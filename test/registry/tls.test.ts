// TLS with an authority of the test's own, against a real TLS server in front of a real registry.
import { readFileSync, writeFileSync } from 'node:fs';
import type { ServerOptions } from 'node:https';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { TlsOptions } from '../../src/registry/client/secure-context.ts';
import { DirRegistry } from '../../src/registry/dir-registry.ts';
import { RemoteRegistry } from '../../src/registry/remote-registry.ts';
import type { RemoteRegistryOptions } from '../../src/registry/remote-registry.ts';
import { serveRegistry } from '../../src/registry/serve-registry.ts';
import type { RegistryServer } from '../../src/registry/serve-registry.ts';
import { defaultBackoff } from '../../src/util/backoff.ts';
import { TestAuthority } from '../support/certificates.ts';
import type { Certificate } from '../support/certificates.ts';
import { startDockerRegistry } from '../support/docker-registry.ts';
import { startFaultyRegistry } from '../support/faulty-registry.ts';
import type { FaultyRegistry } from '../support/faulty-registry.ts';
import { content, listAll, push, readAll } from '../support/registry-content.ts';
import { keptTempDir } from '../support/tmp.ts';

const blob = content(300_000);
const { digest } = blob.descriptor;
const dir = keptTempDir();
const authority = new TestAuthority(dir.path);
const good = authority.issue('good');
const slept: number[] = [];
const timer = { random: () => 0, sleep: async (ms: number) => void slept.push(ms) };

let backend: RegistryServer;
const opened: { close(): Promise<void> }[] = [];

beforeAll(async () => {
  const store = new DirRegistry(path.join(dir.path, 'store'));
  await push(store, 'a/b', blob);
  backend = await serveRegistry(store);
});
afterEach(async () => {
  slept.length = 0;
  for (const one of opened.splice(0)) await one.close();
});
afterAll(async () => {
  await backend.close();
  dir[Symbol.dispose]();
});

async function tlsServer(certificate: Certificate, options: ServerOptions = {}): Promise<FaultyRegistry> {
  const server = await startFaultyRegistry(backend.url, undefined, { ...certificate.pems, ...options });
  opened.push(server);
  return server;
}

function client(host: string, tls: TlsOptions, options: Partial<RemoteRegistryOptions> = {}): RemoteRegistry {
  const registry = new RemoteRegistry({ host, plainHttp: false, tls, timer, ...options });
  opened.unshift(registry);
  return registry;
}

const range = (registry: RemoteRegistry) => registry.getBlobRange('a/b', digest, 1_000, 2_000).then(readAll);

it('is suspected where a registry that is asked over plain HTTP hangs up', async () => {
  const server = await tlsServer(good);
  const once = { ...defaultBackoff, attempts: 1 };
  const plain = client(server.host, {}, { plainHttp: true, backoff: once });
  await expect(range(plain)).rejects.toMatchObject({
    code: 'UNREACHABLE',
    message: expect.stringContaining('closed without an answer, perhaps because it speaks TLS only') as string,
  });
});

describe('the certificate of a registry', () => {
  it('is trusted through a file of authorities, which come on top of the roots', async () => {
    const other = new TestAuthority(dir.path, 'other');
    const server = await tlsServer(good);
    const bundle = path.join(dir.path, 'bundle.pem');
    writeFileSync(bundle, `# two of them\n${[other, authority].map(({ caFile }) => readText(caFile)).join('')}`);
    expect(await range(client(server.host, { caFiles: [bundle] }))).toEqual(blob.bytes.subarray(1_000, 2_000));
    const roots = { rootsFile: authority.caFile, caFiles: [other.caFile] };
    expect(await range(client(server.host, roots))).toEqual(blob.bytes.subarray(1_000, 2_000));
  });

  it.each<[string, () => Certificate, string]>([
    ['of an unknown authority', () => good, 'unknown authority: trust it with --ca-file or hosts.toml'],
    ['that is self-signed', () => authority.selfSigned('self'), 'self-signed: trust it with --ca-file or hosts.toml'],
  ])('%s is refused at once, saying what to do', async (_name, certificate, message) => {
    const server = await tlsServer(certificate());
    await expect(range(client(server.host, {}))).rejects.toMatchObject({
      code: 'UNTRUSTED',
      message: expect.stringMatching(new RegExp(`${server.host}.*: its certificate .*${message}`)),
    });
    expect(server.requests).toEqual([]);
    expect(slept).toEqual([]);
  });

  it.each<[string, () => Certificate, string]>([
    ['has expired', () => authority.issue('expired', undefined, -1), 'has expired'],
    ['is for another host', () => authority.issue('elsewhere', 'DNS:elsewhere.example'), 'is for another host'],
  ])('that %s is refused though its authority is known', async (_name, certificate, message) => {
    const server = await tlsServer(certificate());
    await expect(range(client(server.host, { caFiles: [authority.caFile] }))).rejects.toMatchObject({
      code: 'UNTRUSTED',
      message: expect.stringContaining(`its certificate ${message}`),
    });
    expect(server.requests).toEqual([]);
    expect(await range(client(server.host, { skipVerify: true }))).toHaveLength(1_000);
  });

  it.each<[string, string | undefined, string]>([
    ['is not there', undefined, 'cannot read the certificate authorities in'],
    ['is no certificate', 'hello', 'holds no certificate in PEM form'],
    ['is damaged', '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n', 'holds a damaged certificate'],
  ])('cannot be checked with a file that %s', async (name, text, message) => {
    const file = path.join(dir.path, `${name.replaceAll(' ', '-')}.pem`);
    if (text !== undefined) writeFileSync(file, text);
    const server = await tlsServer(good);
    const failure = range(client(server.host, { caFiles: [file] }));
    await expect(failure).rejects.toMatchObject({ code: 'CONFIG_INVALID', message: expect.stringContaining(message) });
    await expect(failure).rejects.toThrow(`tls for ${server.host}:`);
    await expect(failure).rejects.toThrow(file);
  });
});

describe('a client certificate', () => {
  const asking = () => tlsServer(good, { requestCert: true, rejectUnauthorized: true, ca: readText(authority.caFile) });
  const trust = { caFiles: [authority.caFile] };

  it('opens a registry that asks for one, from two files or one', async () => {
    const server = await asking();
    const mine = authority.issue('mine');
    expect(await range(client(server.host, { ...trust, clientCertificates: [mine] }))).toHaveLength(1_000);
    const both = path.join(dir.path, 'both.pem');
    writeFileSync(both, `${mine.pems.key}${mine.pems.cert}`);
    expect(await range(client(server.host, { ...trust, clientCertificates: [{ certFile: both }] }))).toHaveLength(
      1_000,
    );
  });

  it('that is missing is asked for in words', async () => {
    const server = await startDockerRegistry({ tls: { ...good, clientCaFile: authority.caFile } });
    opened.push(server);
    await expect(client(server.host, trust).ping()).rejects.toMatchObject({
      message: expect.stringContaining('want of a client certificate'),
    });
    await client(server.host, { ...trust, clientCertificates: [authority.issue('mine-too')] }).ping();
  });

  it('that is not taken is said', async () => {
    const server = await asking();
    const foreign = new TestAuthority(dir.path, 'foreign').issue('foreigner');
    await expect(range(client(server.host, { ...trust, clientCertificates: [foreign] }))).rejects.toMatchObject({
      message: expect.stringContaining(server.host),
    });
    expect(server.requests).toEqual([]);
  });

  it('without the right key is an error naming both files', async () => {
    const server = await asking();
    const pair = { certFile: authority.issue('one').certFile, keyFile: authority.issue('two').keyFile };
    await expect(range(client(server.host, { ...trust, clientCertificates: [pair] }))).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining(`${pair.certFile} and ${pair.keyFile}`),
    });
  });
});

describe('plain HTTP where no TLS is spoken', () => {
  const fallback = { plainHttp: 'fallback' } as const;

  it('is found out once, and used for pushes too', async () => {
    const server = await startFaultyRegistry(backend.url);
    opened.push(server);
    const registry = client(server.host, { skipVerify: true }, fallback);
    expect(await range(registry)).toHaveLength(1_000);
    await push(registry, 'a/c', content(5_000));
    expect(server.requests.filter((request) => request === 'GET /v2/')).toEqual([]);
  });

  it('is where the pages of a list and the rest of an upload are, too', async () => {
    const server = await startFaultyRegistry(backend.url);
    opened.push(server);
    server.fault = (request, response) => {
      if (request.url?.startsWith('/v2/a/b/tags/list') !== true) return false;
      const isLast = request.url.includes('last=v1');
      const next = { link: `<${server.url}/v2/a/b/tags/list?last=v1>; rel="next"` };
      response.writeHead(200, isLast ? {} : next).end(JSON.stringify({ tags: [isLast ? 'v2' : 'v1'] }));
      return true;
    };
    expect(await listAll(client(server.host, {}, fallback).tags('a/b'))).toEqual(['v1', 'v2']);
    const upload = await client(server.host, {}, { plainHttp: true }).pushBlobChunked('a/b', undefined);
    const resumed = await client(server.host, {}, fallback).resumeBlob('a/b', upload.id, 0);
    expect(resumed.size).toBe(0);
    await resumed.cancel();
  });

  it('is not used where TLS is', async () => {
    const server = await tlsServer(good);
    expect(await range(client(server.host, { skipVerify: true }, fallback))).toHaveLength(1_000);
    expect(server.requests[0]).toBe('GET /v2/');
  });

  it('is not used because a certificate is not trusted', async () => {
    const server = await tlsServer(good);
    await expect(range(client(server.host, {}, fallback))).rejects.toMatchObject({ code: 'UNTRUSTED' });
    expect(server.requests).toEqual([]);
  });

  it('is no way out when it is not allowed', async () => {
    await expect(range(client(backend.host, {}))).rejects.toMatchObject({
      code: 'UNREACHABLE',
      message: expect.stringContaining('no TLS spoken there'),
    });
  });
});

function readText(file: string): string {
  return readFileSync(file, 'utf8');
}
