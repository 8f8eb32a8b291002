// A registry as a node reaches it: hosts.toml with mirrors in front of an origin, credentials, and what the command line says.
import { mkdirSync, writeFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { readEnvironment } from '../../src/config/environment.ts';
import { connectRegistry } from '../../src/daemon/connect-registry.ts';
import type { ConnectedRegistry } from '../../src/daemon/connect-registry.ts';
import type { RegistryAccess } from '../../src/daemon/registry-access.ts';
import { DirRegistry } from '../../src/registry/dir-registry.ts';
import { serveRegistry } from '../../src/registry/serve-registry.ts';
import type { RegistryServer } from '../../src/registry/serve-registry.ts';
import { TestAuthority } from '../support/certificates.ts';
import { startDockerRegistry } from '../support/docker-registry.ts';
import { startFaultyRegistry } from '../support/faulty-registry.ts';
import type { Fault, FaultyRegistry } from '../support/faulty-registry.ts';
import { content, listAll, push, pushImage, readAll } from '../support/registry-content.ts';
import { startTestProxy } from '../support/test-proxy.ts';
import { keptTempDir } from '../support/tmp.ts';

const dir = keptTempDir();
const blob = content(200_000);
const authority = new TestAuthority(dir.path);
const certificate = authority.issue('server');
const opened: { close(): Promise<void> }[] = [];
let warnings: string[] = [];
let backend: RegistryServer;
let origin: FaultyRegistry;
let first: FaultyRegistry;
let second: FaultyRegistry;
let subject: Awaited<ReturnType<typeof pushImage>>;
let certs = '';
let round = 0;

beforeAll(async () => {
  const store = new DirRegistry(path.join(dir.path, 'store'));
  await push(store, 'a/b', blob);
  subject = await pushImage(store, 'a/b', 'v1');
  await pushImage(store, 'a/b', undefined, { subject: subject.manifest.descriptor });
  backend = await serveRegistry(store);
  origin = await startFaultyRegistry(backend.url);
  first = await startFaultyRegistry(backend.url, undefined, certificate.pems);
  second = await startFaultyRegistry(backend.url);
});
beforeEach(() => {
  certs = path.join(dir.path, `certs-${(round += 1)}`);
  warnings = [];
});
afterEach(async () => {
  for (const server of [origin, first, second]) server.fault = () => false;
  for (const one of opened.splice(0)) await one.close();
});
afterAll(async () => {
  for (const server of [origin, first, second]) await server.close();
  await backend.close();
  dir[Symbol.dispose]();
});

function hostsToml(host: string, text: string): void {
  mkdirSync(path.join(certs, host), { recursive: true });
  writeFileSync(path.join(certs, host, 'hosts.toml'), text);
}

/** Two mirrors in front of the origin: the first over TLS and for content only. */
function twoMirrors(): void {
  hostsToml(
    origin.host,
    `[host."${first.url}"]
       capabilities = ["pull"]
       ca = ${JSON.stringify(authority.caFile)}
       header = { "x-key" = "first" }
     [host."${second.url}"]
       capabilities = ["pull", "resolve"]`,
  );
}

async function connect(
  host = origin.host,
  options: { readonly access?: RegistryAccess; readonly env?: Readonly<Record<string, string>> } = {},
): Promise<ConnectedRegistry> {
  const env = { PEEL_CERTS_DIR: certs, DOCKER_CONFIG: certs, ...options.env };
  const backoff = { attempts: 2, baseMs: 1, maxMs: 1, maxRetryAfterMs: 1 };
  const onWarning = (text: string) => void warnings.push(text);
  const connected = await connectRegistry(host, {
    environment: readEnvironment(env),
    access: options.access,
    backoff,
    onWarning,
  });
  opened.unshift(connected);
  return connected;
}

/** How many requests each server gets while `work` runs: origin, first, second. */
async function requestsDuring(work: () => Promise<unknown>): Promise<number[]> {
  const servers = [origin, first, second];
  const before = servers.map(({ requests }) => requests.length);
  await work();
  return servers.map(({ requests }, i) => requests.length - (before[i] ?? 0));
}

const answer =
  (status: number): Fault =>
  (_request, response) => {
    response.writeHead(status).end();
    return true;
  };

describe('mirrors of hosts.toml', () => {
  it('are asked for tags, blobs, ranges and referrers, each for what it may do', async () => {
    twoMirrors();
    const { registry } = await connect();
    const { digest } = blob.descriptor;
    expect(await requestsDuring(() => registry.resolveTag('a/b', 'v1'))).toEqual([0, 0, 1]);
    expect(await requestsDuring(() => registry.getTag('a/b', 'v1'))).toEqual([0, 0, 1]);
    const whole = async () =>
      expect((await readAll(await registry.getBlob('a/b', digest))).equals(blob.bytes)).toBe(true);
    expect(await requestsDuring(whole)).toEqual([0, 1, 0]);
    const range = async () =>
      expect(await readAll(await registry.getBlobRange('a/b', digest, 10, 90))).toEqual(blob.bytes.subarray(10, 90));
    expect(await requestsDuring(range)).toEqual([0, 1, 0]);
    const referrers = async () =>
      expect(await listAll(registry.referrers('a/b', subject.manifest.descriptor.digest))).toHaveLength(1);
    const [atOrigin, ...atMirrors] = await requestsDuring(referrers);
    expect(atOrigin).toBe(0);
    expect(atMirrors.reduce((sum, count) => sum + count)).toBe(1);
    expect(first.requests.at(-1)).toContain(`ns=${encodeURIComponent(origin.host)}`);
    expect(first.headers.at(-1)).toMatchObject({ 'x-key': 'first' });
    expect(second.headers.at(-1)).not.toHaveProperty('x-key');
  });

  it('are never pushed to when they may not be', async () => {
    twoMirrors();
    const { registry } = await connect();
    const other = content(1_000);
    const [atOrigin, ...atMirrors] = await requestsDuring(async () => await push(registry, 'a/c', other));
    expect(atOrigin).toBeGreaterThan(0);
    expect(atMirrors).toEqual([0, 0]);
  });

  it.each([404, 500, 403, 401])('that answer %s are passed over', async (status) => {
    twoMirrors();
    first.fault = answer(status);
    second.fault = answer(status);
    const { registry } = await connect();
    expect(await readAll(await registry.getBlobRange('a/b', blob.descriptor.digest, 0, 100))).toHaveLength(100);
    expect((await registry.resolveTag('a/b', 'v1')).digest).toBe(subject.manifest.descriptor.digest);
    expect(warnings.length === 0).toBe(status === 404);
  });

  it('that are down or not trusted are passed over, saying so', async () => {
    hostsToml(origin.host, `[host."http://127.0.0.1:1"]\n[host."${first.url}"]`);
    const { registry } = await connect();
    expect((await registry.resolveTag('a/b', 'v1')).digest).toBe(subject.manifest.descriptor.digest);
    expect(warnings.join('\n')).toMatch(/127\.0\.0\.1:1 is passed over .*connection refused/);
    expect(warnings.join('\n')).toMatch(/its certificate comes from an unknown authority/);
  });

  it('below a path of their own are asked there', async () => {
    hostsToml(origin.host, `[host."${second.url}/cache/hub"]\noverride_path = true`);
    second.fault = (request) => {
      request.url = request.url?.replace('/cache/hub/', '/v2/') ?? '';
      return false;
    };
    const { registry } = await connect();
    await registry.getTag('a/b', 'v1');
    expect(second.requests.at(-1)).toContain('GET /cache/hub/a/b/manifests/v1?ns=');
  });

  it('may stand in for the registry as its server', async () => {
    hostsToml('_default', `server = "${second.url}"\ncapabilities = ["pull", "resolve"]`);
    const { registry } = await connect('registry.invalid');
    expect((await registry.resolveTag('a/b', 'v1')).digest).toBe(subject.manifest.descriptor.digest);
    await expect(push(registry, 'a/d', content(10))).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });

  it('get their own credentials and never those of the registry', async () => {
    twoMirrors();
    const auth = (user: string) => Buffer.from(`${user}:secret`).toString('base64');
    const auths = { [second.host]: { auth: auth('mirror') }, [origin.host]: { auth: auth('origin') } };
    writeFileSync(path.join(certs, 'config.json'), JSON.stringify({ auths }));
    const seen = new Map<string, Set<string | undefined>>();
    const challenge =
      (name: string): Fault =>
      (request: IncomingMessage, response) => {
        const users = seen.get(name) ?? new Set();
        seen.set(name, users.add(request.headers.authorization));
        response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end();
        return true;
      };
    first.fault = challenge('first');
    second.fault = challenge('second');
    origin.fault = challenge('origin');
    for (const access of [{}, { credentials: { kind: 'password', username: 'typed', password: 'secret' } as const }]) {
      seen.clear();
      const { registry } = await connect(origin.host, { access });
      await expect(registry.getBlobRange('a/b', blob.descriptor.digest, 0, 1)).rejects.toMatchObject({
        code: 'UNAUTHORIZED',
      });
      await registry.resolveTag('a/b', 'v1').catch(() => {});
      expect([...(seen.get('first') ?? [])]).toEqual([undefined]);
      expect([...(seen.get('second') ?? [])]).toEqual([undefined, `Basic ${auth('mirror')}`]);
      const mine = 'credentials' in access ? 'typed' : 'origin';
      expect([...(seen.get('origin') ?? [])]).toEqual([undefined, `Basic ${auth(mine)}`]);
    }
  });

  it('through a proxy of their own', async () => {
    const proxy = await startTestProxy();
    opened.push(proxy);
    hostsToml(
      '_default',
      `[host."http://mirror.invalid:${second.host.split(':')[1]}"]\nproxy = "http://${proxy.host}"`,
    );
    const { registry } = await connect('registry.invalid', { env: { NO_PROXY: '*' } });
    await registry.resolveTag('a/b', 'v1');
    expect(proxy.requests).toHaveLength(1);
  });
});

describe('a configuration that is wrong', () => {
  it('refuses a typed user that hosts.toml would leave out', async () => {
    hostsToml(origin.host, `server = "${second.url}"`);
    const credentials = { kind: 'password', username: 'me', password: 'secret' } as const;
    await expect(connect(origin.host, { access: { credentials } })).rejects.toMatchObject({
      code: 'CREDENTIALS_INVALID',
      message: expect.stringContaining(second.host),
    });
  });

  it('is an error naming the file', async () => {
    hostsToml(origin.host, 'server = 5');
    await expect(connect()).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining(`${origin.host}/hosts.toml: server: expected`),
    });
  });

  it('in keys that are not known is a warning', async () => {
    hostsToml(origin.host, 'skip-verify = true');
    await (await connect()).registry.resolveTag('a/b', 'v1');
    expect(warnings).toEqual([expect.stringContaining('skip-verify is not known')]);
  });

  it('of a proxy is an error without its password', async () => {
    await expect(connect(origin.host, { env: { HTTPS_PROXY: 'gopher://me:s3cret@proxy' } })).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.not.stringContaining('s3cret'),
    });
  });
});

describe('what the command line says of a registry', () => {
  it('makes its authority known', async () => {
    const { registry } = await connect(first.host, { access: { caFile: authority.caFile } });
    expect((await registry.resolveTag('a/b', 'v1')).digest).toBe(subject.manifest.descriptor.digest);
    const { registry: other } = await connect(first.host, {
      access: { caFile: new TestAuthority(dir.path, 'x').caFile },
    });
    await expect(other.resolveTag('a/b', 'v1')).rejects.toMatchObject({ code: 'UNTRUSTED' });
  });

  it('takes any certificate, or none, when that does not matter', async () => {
    for (const { host } of [first, origin]) {
      const { registry } = await connect(host, { access: { insecure: true } });
      expect((await registry.resolveTag('a/b', 'v1')).digest).toBe(subject.manifest.descriptor.digest);
    }
  });

  it('sends the user that was typed, to a registry over TLS with a password file', async () => {
    // ann : se:cret, bcrypt
    const htpasswd = 'ann:$2y$05$7pDaQY2Fs/unyZ9hX295pOsF8IaLwoMwQ/0olXtKE9e7QayQ6kTu2\n';
    const server = await startDockerRegistry({ tls: certificate, htpasswd });
    opened.push(server);
    const credentials = { kind: 'password', username: 'ann', password: 'se:cret' } as const;
    const access = { credentials, caFile: authority.caFile };
    const { registry, origin: remote } = await connect(server.host, { access });
    await remote.ping();
    await push(registry, 'a/b', blob);
    expect(await readAll(await registry.getBlobRange('a/b', blob.descriptor.digest, 7, 77))).toEqual(
      blob.bytes.subarray(7, 77),
    );
    const stranger = await connect(server.host, { access: { caFile: authority.caFile } });
    await expect(stranger.origin.ping()).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
  });
});

describe("the system's authorities", () => {
  it.each(['SSL_CERT_FILE', 'NODE_EXTRA_CA_CERTS'])('come from %s', async (name) => {
    // A name that is not loopback is asked over TLS without being told.
    const proxy = await startTestProxy();
    opened.push(proxy);
    const named = await startFaultyRegistry(
      backend.url,
      undefined,
      authority.issue('named', 'DNS:registry.invalid').pems,
    );
    opened.push(named);
    const env = { HTTPS_PROXY: proxy.host, [name]: authority.caFile };
    const { registry } = await connect(`registry.invalid:${named.host.split(':')[1]}`, { env });
    expect((await registry.resolveTag('a/b', 'v1')).digest).toBe(subject.manifest.descriptor.digest);
  });
});
