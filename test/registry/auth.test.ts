import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, describe, expect, it, onTestFinished } from 'vitest';
import { Authorizer } from '../../src/registry/auth/authorizer.ts';
import { defaultHttpOptions, HttpConnections } from '../../src/registry/client/http.ts';
import type { CredentialSource, Credentials } from '../../src/registry/auth/credentials.ts';
import { DockerCredentials } from '../../src/registry/auth/docker-config.ts';
import { Scope } from '../../src/registry/auth/scope.ts';
import { DirRegistry } from '../../src/registry/dir-registry.ts';
import { RemoteRegistry } from '../../src/registry/remote-registry.ts';
import type { RemoteRegistryOptions } from '../../src/registry/remote-registry.ts';
import { serveRegistry } from '../../src/registry/serve-registry.ts';
import { startDockerRegistry } from '../support/docker-registry.ts';
import { startFaultyRegistry } from '../support/faulty-registry.ts';
import { content, push, pushImage, readAll } from '../support/registry-content.ts';
import { tempDir } from '../support/tmp.ts';

const password: Credentials = { kind: 'password', username: 'ann', password: 'se:cret' };
const annBasic = `Basic ${Buffer.from('ann:se:cret').toString('base64')}`;

function fixed(credentials: Credentials | undefined): CredentialSource & { readonly hosts: string[] } {
  const hosts: string[] = [];
  return { hosts, lookup: async (host) => (hosts.push(host), credentials) };
}

/** A token server and a registry behind it that takes only tokens for the right scope. */
async function tokenWorld(options: { expiresIn?: number; postStatus?: number; insist?: string } = {}) {
  const backend = await serveRegistry(new DirRegistry(tempDir()));
  const direct = new RemoteRegistry({ host: backend.host });
  const image = await pushImage(direct, 'a/b', 'v1');
  const issued: {
    readonly method: string;
    readonly scope: string;
    readonly authorization: string | undefined;
    readonly body: string;
  }[] = [];
  const refused = new Set<string>();
  const tokens = await startFaultyRegistry(undefined, async (request, response) => {
    let body = '';
    for await (const chunk of request) body += String(chunk);
    const url = new URL(`http://x${request.url}`);
    const scope =
      request.method === 'POST'
        ? (new URLSearchParams(body).get('scope') ?? '')
        : url.searchParams.getAll('scope').join(' ');
    if (request.method === 'POST' && options.postStatus !== undefined) {
      response.writeHead(options.postStatus).end();
      return true;
    }
    const { authorization } = request.headers;
    issued.push({ method: request.method ?? '', scope, authorization, body });
    if (authorization !== undefined && authorization !== annBasic) {
      response.writeHead(401).end('{"details":"incorrect username or password"}');
      return true;
    }
    const token = Buffer.from(`${issued.length}|${scope}`).toString('base64url');
    const answer = {
      token,
      expires_in: options.expiresIn ?? 300,
      refresh_token: request.method === 'POST' ? `next-${issued.length}` : undefined,
    };
    response.end(JSON.stringify(answer));
    return true;
  });
  const registry = await startFaultyRegistry(backend.url, (request, response) => {
    const bearer = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1];
    const scope = bearer === undefined ? '' : Buffer.from(bearer, 'base64url').toString('utf8');
    const action = options.insist ?? (request.method === 'GET' || request.method === 'HEAD' ? 'pull' : 'push');
    if (bearer !== undefined && !refused.has(bearer) && scope.includes(action)) return false;
    const repository = /^\/v2\/(.+?)\/(?:blobs|manifests|tags|referrers)\//.exec(request.url ?? '')?.[1];
    const challenge = `Bearer realm="${tokens.url}/token",service="registry",scope="repository:${repository ?? ''}:${action}"`;
    response.writeHead(401, { 'www-authenticate': challenge }).end();
    return true;
  });
  const client = (more: Partial<RemoteRegistryOptions> = {}) => {
    const made = new RemoteRegistry({
      host: registry.host,
      backoff: { attempts: 1, baseMs: 1, maxMs: 1, maxRetryAfterMs: 1 },
      ...more,
    });
    onTestFinished(async () => await made.close());
    return made;
  };
  onTestFinished(async () => {
    await direct.close();
    await registry.close();
    await tokens.close();
    await backend.close();
  });
  return { client, issued, refused, registry, tokens, image };
}

describe('bearer tokens', () => {
  it('are asked for once per scope and used again', async () => {
    const world = await tokenWorld();
    const registry = world.client();
    await registry.resolveTag('a/b', 'v1');
    await registry.resolveBlob('a/b', world.image.layer.descriptor.digest);
    await Promise.all(Array.from({ length: 20 }, async () => await registry.getTag('a/b', 'v1')));
    expect(world.issued.map(({ scope }) => scope)).toEqual(['repository:a/b:pull']);
    expect(world.registry.requests[0]).toBe('HEAD /v2/a/b/manifests/v1');
    expect(world.registry.headers[0]?.authorization).toBeUndefined();
    await push(registry, 'a/b', content(1_000));
    expect(world.issued.map(({ scope }) => scope)).toEqual(['repository:a/b:pull', 'repository:a/b:pull,push']);
    await registry.resolveTag('a/b', 'v1');
    expect(world.issued).toHaveLength(2);
  });

  it('are asked for once by many at the same time', async () => {
    const world = await tokenWorld();
    const registry = world.client();
    await Promise.all(Array.from({ length: 20 }, async () => await registry.getTag('a/b', 'v1')));
    expect(world.issued).toHaveLength(1);
  });

  it('are asked for with the credentials of the host', async () => {
    const world = await tokenWorld();
    const credentials = fixed(password);
    const registry = world.client({ credentials });
    await registry.resolveTag('a/b', 'v1');
    await registry.resolveTag('a/b', 'v1');
    expect(world.issued[0]?.authorization).toBe(annBasic);
    expect(credentials.hosts).toEqual([world.registry.host]);
    expect(world.registry.headers.map(({ authorization }) => authorization?.split(' ')[0])).toEqual([
      undefined,
      'Bearer',
      'Bearer',
    ]);
  });

  it('that expired or are refused are renewed once within the same call', async () => {
    const world = await tokenWorld();
    const registry = world.client();
    await registry.resolveTag('a/b', 'v1');
    world.refused.add(world.registry.headers.at(-1)?.authorization?.slice(7) ?? '');
    expect(await readAll(await registry.getBlob('a/b', world.image.layer.descriptor.digest))).toEqual(
      world.image.layer.bytes,
    );
    expect(world.issued).toHaveLength(2);
  });

  it('of a server that refuses every token are not asked for for ever', async () => {
    const world = await tokenWorld({ insist: 'never-granted-by-anybody' });
    world.tokens.fault = (_request, response) => {
      response.end('{"token":"x"}');
      return true;
    };
    await expect(world.client().resolveTag('a/b', 'v1')).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
    expect(world.registry.requests).toHaveLength(2);
  });

  it('with a short life are renewed before they are used', async () => {
    const world = await tokenWorld({ expiresIn: 0.05 });
    const registry = world.client();
    await registry.resolveTag('a/b', 'v1');
    await new Promise((resolve) => setTimeout(resolve, 60));
    await registry.resolveTag('a/b', 'v1');
    expect(world.issued).toHaveLength(2);
    expect(world.registry.requests).toHaveLength(3);
  });

  it('come from a refresh token by POST, which may be replaced', async () => {
    const world = await tokenWorld({ expiresIn: 0.02 });
    const registry = world.client({ credentials: fixed({ kind: 'refresh-token', token: 'first' }) });
    await registry.resolveTag('a/b', 'v1');
    await new Promise((resolve) => setTimeout(resolve, 30));
    await registry.resolveTag('a/b', 'v1');
    expect(
      world.issued.map(({ method, body }) => `${method} ${new URLSearchParams(body).get('refresh_token')}`),
    ).toEqual(['POST first', 'POST next-1']);
  });

  it('come by GET from a token server without OAuth2', async () => {
    const world = await tokenWorld({ postStatus: 404 });
    await world.client({ credentials: fixed({ kind: 'refresh-token', token: 'first' }) }).resolveTag('a/b', 'v1');
    expect(world.issued.map(({ method }) => method)).toEqual(['GET']);
  });

  it('that were configured are used as they are', async () => {
    const world = await tokenWorld();
    const token = Buffer.from('0|repository:a/b:pull').toString('base64url');
    await world.client({ credentials: fixed({ kind: 'access-token', token }) }).resolveTag('a/b', 'v1');
    expect(world.issued).toEqual([]);
  });

  it.each([
    ['a wrong password', undefined, 'UNAUTHORIZED', 'incorrect username or password'],
    ['garbage', '<html>', 'RESPONSE_INVALID', 'not json'],
    ['no token', '{"expires_in":5}', 'RESPONSE_INVALID', 'without a token'],
    ['a token with a line break', '{"token":"a\\r\\nb"}', 'RESPONSE_INVALID', 'without a token'],
    ['null', 'null', 'RESPONSE_INVALID', 'without a token'],
    ['too much', 'x'.repeat(2_000_000), 'TOO_LARGE', 'more than'],
  ])('say what is wrong with %s, without the secret', async (_name, body, code, message) => {
    const world = await tokenWorld();
    if (body !== undefined) world.tokens.fault = (_request, response) => (response.end(body), true);
    const credentials = fixed({ kind: 'password', username: 'bob', password: 'hunter2' });
    const error = await world
      .client({ credentials })
      .resolveTag('a/b', 'v1')
      .catch((e: unknown) => e);
    expect(error).toMatchObject({ code, message: expect.stringContaining(message) });
    expect(JSON.stringify(error, Object.getOwnPropertyNames(error)) + String((error as Error).cause)).not.toMatch(
      /hunter2|<html>|a\r/,
    );
  });

  it.each([
    ['https://r.io', 'ftp://x/token'],
    ['https://r.io', 'not a url'],
    ['https://r.io', 'http://example.com/token'],
    ['http://localhost', 'file:///token'],
  ])('of %s are not asked for at %s', async (endpoint, realm) => {
    const connections = new HttpConnections(defaultHttpOptions);
    onTestFinished(() => connections.destroy());
    const authorizer = new Authorizer({
      host: 'r.io',
      endpoint: new URL(endpoint),
      credentials: fixed(password),
      connections,
    });
    const challenge = { scheme: 'bearer', parameters: new Map([['realm', realm]]) };
    await expect(authorizer.answerChallenge([challenge], Scope.parse('x'), undefined)).rejects.toMatchObject({
      code: 'RESPONSE_INVALID',
      message: expect.stringContaining('token server that cannot be used'),
    });
  });
});

describe('redirects', () => {
  it('to another origin carry no Authorization, and are remembered until they expire', async () => {
    const world = await tokenWorld();
    const { layer } = world.image;
    let expired = false;
    const storage = await startFaultyRegistry(undefined, (request, response) => {
      if (expired && request.url?.includes('signature=1') === true) {
        response.writeHead(403).end('<Error>expired</Error>');
        return true;
      }
      const match = /bytes=(\d+)-(\d+)/.exec(request.headers.range ?? '');
      const [from, to] = [Number(match?.[1]), Number(match?.[2]) + 1];
      response
        .writeHead(206, { 'content-range': `bytes ${from}-${to - 1}/${layer.bytes.length}` })
        .end(layer.bytes.subarray(from, to));
      return true;
    });
    onTestFinished(async () => await storage.close());
    let signatures = 0;
    const guard = world.registry.fault;
    world.registry.fault = async (request, response) => {
      if (await guard(request, response)) return true;
      if (request.url?.includes('/blobs/') !== true) return false;
      signatures += 1;
      response.writeHead(307, { location: `${storage.url}/store?signature=${signatures}` }).end();
      return true;
    };
    const registry = world.client({ credentials: fixed(password) });
    const read = async (from: number, to: number) =>
      await readAll(await registry.getBlobRange('a/b', layer.descriptor.digest, from, to));
    expect(await read(0, 10)).toEqual(layer.bytes.subarray(0, 10));
    expect(await read(10, 20)).toEqual(layer.bytes.subarray(10, 20));
    expect(signatures).toBe(1);
    expired = true;
    expect(await read(20, 30)).toEqual(layer.bytes.subarray(20, 30));
    expect(signatures).toBe(2);
    world.registry.fault = guard;
    expired = true;
    storage.fault = (_request, response) => (response.writeHead(403).end(), true);
    expect(await read(30, 40)).toEqual(layer.bytes.subarray(30, 40));
    expect(await read(40, 50)).toEqual(layer.bytes.subarray(40, 50));
    expect(storage.requests).toEqual([1, 1, 1, 2, 2].map((n) => `GET /store?signature=${n}`));
    expect(storage.headers.every(({ authorization }) => authorization === undefined)).toBe(true);
  });

  it('within the registry keep it', async () => {
    const world = await tokenWorld();
    const guard = world.registry.fault;
    world.registry.fault = async (request, response) => {
      if (request.url === '/v2/a/b/manifests/old') {
        response.writeHead(302, { location: '/v2/a/b/manifests/v1' }).end();
        return true;
      }
      return await guard(request, response);
    };
    expect((await world.client().resolveTag('a/b', 'old')).digest).toBe(world.image.manifest.descriptor.digest);
  });

  it('to a server that asks for credentials get none', async () => {
    const other = await startFaultyRegistry(undefined, (_request, response) => {
      response.writeHead(401, { 'www-authenticate': 'Basic realm="give me"' }).end();
      return true;
    });
    const first = await startFaultyRegistry(undefined, (_request, response) => {
      response.writeHead(302, { location: `${other.url}/steal` }).end();
      return true;
    });
    const registry = new RemoteRegistry({ host: first.host, credentials: fixed(password) });
    onTestFinished(async () => {
      await registry.close();
      await first.close();
      await other.close();
    });
    await expect(registry.resolveTag('a/b', 'v1')).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
    expect(other.headers.map(({ authorization }) => authorization)).toEqual([undefined]);
  });
});

describe('basic authentication', () => {
  it('opens docker-registry with a password file', async () => {
    // ann : se:cret, bcrypt
    const { execFileSync } = await import('node:child_process');
    const htpasswd = execFileSync('htpasswd', ['-nbB', 'ann', 'se:cret'], { encoding: 'utf8' });
    const server = await startDockerRegistry({ htpasswd });
    const good = new RemoteRegistry({ host: server.host, credentials: fixed(password) });
    const nobody = new RemoteRegistry({ host: server.host });
    const wrong = new RemoteRegistry({ host: server.host, credentials: fixed({ ...password, password: 'x' }) });
    onTestFinished(async () => {
      for (const registry of [good, nobody, wrong]) await registry.close();
      await server.close();
    });
    await good.ping();
    const { manifest } = await pushImage(good, 'a/b', 'v1');
    expect((await good.resolveTag('a/b', 'v1')).digest).toBe(manifest.descriptor.digest);
    await expect(nobody.ping()).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
    await expect(nobody.getTag('a/b', 'v1')).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
    await expect(wrong.resolveTag('a/b', 'v1')).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
  });
});

describe('DockerCredentials', () => {
  const savedPath = process.env['PATH'];
  afterEach(() => {
    process.env['PATH'] = savedPath;
  });

  function config(value: unknown): DockerCredentials {
    const configFile = path.join(tempDir(), 'config.json');
    writeFileSync(configFile, typeof value === 'string' ? value : JSON.stringify(value));
    return new DockerCredentials({ configFile, helperTimeoutMs: 400 });
  }

  function helper(name: string, script: string): void {
    const bin = tempDir();
    writeFileSync(path.join(bin, `docker-credential-${name}`), `#!/bin/sh\n${script}\n`);
    chmodSync(path.join(bin, `docker-credential-${name}`), 0o755);
    process.env['PATH'] = `${bin}:${process.env['PATH']}`;
  }

  const auth = Buffer.from('ann:se:cret').toString('base64');

  it.each<[string, unknown, string, Credentials | undefined]>([
    ['a host', { auths: { 'r.io': { auth } } }, 'r.io', password],
    ['a host and port', { auths: { 'r.io:5000': { auth } } }, 'r.io:5000', password],
    ['another port', { auths: { 'r.io:5000': { auth } } }, 'r.io', undefined],
    ['a URL', { auths: { 'https://r.io/v1/': { auth } } }, 'r.io', password],
    ['the name of Docker Hub', { auths: { 'https://index.docker.io/v1/': { auth } } }, 'docker.io', password],
    ['username and password', { auths: { 'r.io': { username: 'ann', password: 'se:cret' } } }, 'r.io', password],
    [
      'an identity token',
      { auths: { 'r.io': { auth, identitytoken: 't' } } },
      'r.io',
      { kind: 'refresh-token', token: 't' },
    ],
    ['a registry token', { auths: { 'r.io': { registrytoken: 't' } } }, 'r.io', { kind: 'access-token', token: 't' }],
    ['an empty entry', { auths: { 'r.io': {} } }, 'r.io', undefined],
    ['nothing', {}, 'r.io', undefined],
    [
      'a store that is not installed',
      { credsStore: 'not-installed-here', auths: { 'r.io': { auth } } },
      'r.io',
      password,
    ],
  ])('finds the credentials of %s', async (_name, value, host, expected) => {
    expect(await config(value).lookup(host)).toEqual(expected);
  });

  it('finds nothing where there is no file', async () => {
    expect(await new DockerCredentials({ configFile: '/nonexistent/config.json' }).lookup('r.io')).toBeUndefined();
  });

  it('asks the helper of the host, and the store for others', async () => {
    helper('one', 'read host; echo "{\\"ServerURL\\":\\"$host\\",\\"Username\\":\\"$1\\",\\"Secret\\":\\"$host\\"}"');
    helper('two', 'echo "{\\"Username\\":\\"<token>\\",\\"Secret\\":\\"refresh\\"}"');
    const credentials = config({ credHelpers: { 'r.io': 'one' }, credsStore: 'two' });
    expect(await credentials.lookup('r.io')).toEqual({ kind: 'password', username: 'get', password: 'r.io' });
    expect(await credentials.lookup('docker.io')).toEqual({ kind: 'refresh-token', token: 'refresh' });
  });

  it('takes "not found" of a helper for nobody', async () => {
    helper('none', 'echo "credentials not found in native keychain"; exit 1');
    expect(await config({ credsStore: 'none' }).lookup('r.io')).toBeUndefined();
  });

  it.each([
    ['fails', 'echo "secret-thing" >&2; exit 3', 'status 3'],
    ['talks nonsense', 'echo secret-thing', 'not json'],
    ['answers with half', 'echo "{\\"Secret\\":\\"secret-thing\\"}"', 'without username'],
    ['never ends', 'sleep 30; echo secret-thing', 'within 400 ms'],
    ['leaves a child holding its output', 'sleep 30 & exec sleep 30', 'within 400 ms'],
    ['answers with too much', 'yes secret-thing', 'too much'],
  ])('says so when a helper %s, without what it said', async (_name, script, message) => {
    helper('bad', script);
    const error = await config({ credHelpers: { 'r.io': 'bad' } })
      .lookup('r.io')
      .catch((e: unknown) => e);
    expect(error).toMatchObject({ code: 'CREDENTIALS_INVALID', message: expect.stringContaining(message) });
    expect((error as Error).message + String((error as Error).cause)).not.toContain('secret-thing');
  });

  it('leaves no helper running that it gave up on', async () => {
    const pids = path.join(tempDir(), 'pids');
    helper('slow', `sleep 30 & echo $! $$ > ${pids}; wait`);
    await expect(config({ credsStore: 'slow' }).lookup('r.io')).rejects.toThrow('within 400 ms');
    const running = () =>
      readFileSync(pids, 'utf8')
        .trim()
        .split(' ')
        .filter(
          (pid) => existsSync(`/proc/${pid}`) && !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8')),
        );
    for (let tries = 0; running().length > 0 && tries < 100; tries += 1)
      await new Promise((resolve) => setTimeout(resolve, 10));
    expect(running()).toEqual([]);
  });

  it.each([
    ['a helper that is not installed', { credHelpers: { 'r.io': 'not-installed-here' } }, 'not installed'],
    ['a helper that is a path', { credHelpers: { 'r.io': '../../bin/sh' } }, 'not a credential helper'],
    ['a file that is not json', '{"auths": {"r.io": {"auth": "c2VjcmV0', 'not valid json'],
    ['a file that is a list', '[]', 'not an object'],
    [
      'an auth that is none',
      { auths: { 'r.io': { auth: Buffer.from('secret').toString('base64') } } },
      'not base64 of user:password',
    ],
  ])('refuses %s', async (_name, value, message) => {
    await expect(config(value).lookup('r.io')).rejects.toMatchObject({
      code: 'CREDENTIALS_INVALID',
      message: expect.stringContaining(message),
    });
  });

  it('stores and erases a password, keeping the rest of the file', async () => {
    const configFile = path.join(tempDir(), 'new', 'config.json');
    const credentials = new DockerCredentials({ configFile });
    expect(await credentials.store('r.io', 'ann', 'se:cret')).toBe(configFile);
    expect(await credentials.lookup('r.io')).toEqual(password);
    expect(statSync(configFile).mode & 0o777).toBe(0o600);
    writeFileSync(
      configFile,
      JSON.stringify({ ...(JSON.parse(readFileSync(configFile, 'utf8')) as object), psFormat: 'kept' }),
    );
    await credentials.store('docker.io', 'bob', 'x');
    expect(JSON.parse(readFileSync(configFile, 'utf8'))).toMatchObject({
      psFormat: 'kept',
      auths: { 'https://index.docker.io/v1/': {} },
    });
    expect(await credentials.erase('r.io')).toBe(true);
    expect(await credentials.erase('r.io')).toBe(false);
    expect(await credentials.lookup('docker.io')).toMatchObject({ username: 'bob' });
  });

  it('stores with the helper when there is one', async () => {
    const bin = tempDir();
    helper('kept', `cat > ${bin}/$1`);
    mkdirSync(path.join(bin, 'x'));
    expect(await config({ credsStore: 'kept' }).store('r.io', 'ann', 'se:cret')).toBe('docker-credential-kept');
    expect(JSON.parse(readFileSync(path.join(bin, 'store'), 'utf8'))).toEqual({
      ServerURL: 'r.io',
      Username: 'ann',
      Secret: 'se:cret',
    });
  });
});
