// A real registry that takes nothing but tokens, a token server beside it, and skopeo as the witness that both are real.
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { Credentials } from '../../../src/registry/auth/credentials.ts';
import { staticCredentials } from '../../../src/registry/auth/credentials.ts';
import { DockerCredentials } from '../../../src/registry/auth/docker-config.ts';
import { Scope } from '../../../src/registry/auth/scope.ts';
import { RemoteRegistry } from '../../../src/registry/remote-registry.ts';
import type { RemoteRegistryOptions } from '../../../src/registry/remote-registry.ts';
import { startDockerRegistry } from '../../support/docker-registry.ts';
import { content, push, pushImage, readAll } from '../../support/registry-content.ts';
import { run } from '../../support/run.ts';
import { tempDir } from '../../support/tmp.ts';
import { issuer, service, startTokenServer } from '../../support/token-server.ts';

const ann: Credentials = { kind: 'password', username: 'ann', password: 'ann-secret' };
const bob: Credentials = { kind: 'password', username: 'bob', password: 'bob-secret' };

/** Ann may do everything; Bob reads; everybody reads `public/…`; nobody but Ann sees `ann/…`. */
async function world() {
  const tokens = await startTokenServer((user, resource) => {
    if (user === 'ann') return ['pull', 'push', 'delete', '*'];
    if (resource.startsWith('repository:public/')) return ['pull'];
    return user === 'bob' && !resource.startsWith('repository:ann/') ? ['pull'] : [];
  });
  tokens.passwords.set('ann', 'ann-secret').set('bob', 'bob-secret');
  const { certificateFile } = tokens;
  const server = await startDockerRegistry({
    token: { realm: `${tokens.url}/token`, service, issuer, certificateFile },
  });
  onTestFinished(async () => await server.close());
  const client = (credentials?: Credentials, more: Partial<RemoteRegistryOptions> = {}) => {
    const made = new RemoteRegistry({
      host: server.host,
      backoff: { attempts: 3, baseMs: 1, maxMs: 1, maxRetryAfterMs: 1 },
      ...(credentials === undefined ? {} : { credentials: staticCredentials(credentials, [server.host]) }),
      ...more,
    });
    onTestFinished(async () => await made.close());
    return made;
  };
  return { tokens, host: server.host, client };
}

describe('docker-registry behind a token server', () => {
  it('takes what its owner pushes and gives it to those who may read, as it does for skopeo', async () => {
    const { tokens, host, client } = await world();
    const image = await pushImage(client(ann), 'a/b', 'v1');
    expect((await client(bob).getTag('a/b', 'v1')).bytes).toEqual(image.manifest.bytes);
    expect(await readAll(await client(bob).getBlob('a/b', image.layer.descriptor.digest))).toEqual(image.layer.bytes);
    expect(tokens.issued.filter(({ user }) => user === 'bob').map(({ scopes }) => scopes)).toEqual([
      ['repository:a/b:pull'],
      ['repository:a/b:pull'],
    ]);
    const inspect = async (...credentials: readonly string[]) =>
      await run('skopeo', ['inspect', '--raw', '--tls-verify=false', ...credentials, `docker://${host}/a/b:v1`]);
    expect((await inspect('--creds', 'bob:bob-secret')).out).toBe(image.manifest.bytes.toString());
    expect((await inspect('--creds', 'bob:wrong')).code).not.toBe(0);
    expect((await inspect('--no-creds')).code).not.toBe(0);
    const insecure = ['--preserve-digests', '--src-tls-verify=false', '--dest-tls-verify=false'];
    const people = ['--src-creds', 'bob:bob-secret', '--dest-creds', 'ann:ann-secret'];
    const images = [`docker://${host}/a/b:v1`, `docker://${host}/copied:v1`];
    const copy = await run('skopeo', ['copy', ...insecure, ...people, ...images]);
    expect(copy).toMatchObject({ code: 0 });
    expect((await client(bob).resolveTag('copied', 'v1')).digest).toBe(image.manifest.descriptor.digest);
  });

  it('lets everybody read what is public', async () => {
    const { tokens, client } = await world();
    await pushImage(client(ann), 'public/b', 'v1');
    await client().resolveTag('public/b', 'v1');
    expect(tokens.issued.at(-1)).toEqual({
      grant: 'anonymous',
      user: undefined,
      scopes: ['repository:public/b:pull'],
    });
  });

  it('refuses a wrong password also for what is public, as docker does', async () => {
    const { client } = await world();
    await pushImage(client(ann), 'public/b', 'v1');
    await expect(client({ ...bob, password: 'mistaken' }).resolveTag('public/b', 'v1')).rejects.toMatchObject({
      code: 'UNAUTHORIZED',
      message: expect.stringContaining('token server'),
    });
  });

  it('answers DENIED to somebody known, and UNAUTHORIZED to nobody, after one token each', async () => {
    const { tokens, client } = await world();
    await pushImage(client(ann), 'ann/b', 'v1');
    const before = tokens.asked();
    await expect(client(bob).resolveTag('ann/b', 'v1')).rejects.toMatchObject({ code: 'DENIED', status: 401 });
    expect(tokens.asked()).toBe(before + 1);
    await expect(client().resolveTag('ann/b', 'v1')).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
    expect(tokens.asked()).toBe(before + 2);
    const writer = client(bob);
    await writer.ping();
    await expect(push(writer, 'a/b', content(100))).rejects.toMatchObject({ code: 'DENIED' });
  });

  it('mounts a blob with one token for both repositories', async () => {
    const { tokens, client } = await world();
    const blob = content(5_000);
    await push(client(ann), 'a/b', blob);
    await client(ann).mountBlob('a/b', 'c/d', blob.descriptor.digest);
    const asked = tokens.issued.map(({ scopes }) => Scope.parse(scopes.join(' ')).toString());
    expect(asked).toContain('repository:a/b:pull repository:c/d:pull,push');
    expect(await readAll(await client(ann).getBlob('c/d', blob.descriptor.digest))).toEqual(blob.bytes);
  });

  it('is asked for one token for all that will be done, where that is known', async () => {
    const { tokens, client } = await world();
    for (const name of ['a', 'b', 'c']) await pushImage(client(ann), name, 'v1');
    const before = tokens.asked();
    const registry = client(bob, { scope: 'repository:a:pull repository:b:pull repository:c:pull' });
    for (const name of ['a', 'b', 'c']) await registry.resolveTag(name, 'v1');
    expect(tokens.asked()).toBe(before + 1);
  });

  it('is read and written on where tokens live for two seconds, whether or not the server says so', async () => {
    const { tokens, client } = await world();
    const { layer } = await pushImage(client(ann), 'a/b', 'v1');
    const blob = content(3_000);
    const read = async (registry: RemoteRegistry) =>
      await readAll(await registry.getBlobRange('a/b', layer.descriptor.digest, 10, 20));
    tokens.lifetimeSeconds = 2;
    const told = client(bob);
    expect(await read(told)).toEqual(layer.bytes.subarray(10, 20));
    tokens.saidSeconds = 300;
    const untold = client(bob);
    expect(await read(untold)).toEqual(layer.bytes.subarray(10, 20));
    const upload = await client(ann).pushBlobChunked('a/b', 1_000);
    await upload.write(blob.bytes.subarray(0, 1_500));
    const before = tokens.asked();
    await delay(3_500);
    expect(await read(told)).toEqual(layer.bytes.subarray(10, 20));
    expect(await read(untold)).toEqual(layer.bytes.subarray(10, 20));
    tokens.lifetimeSeconds = 300;
    await upload.write(blob.bytes.subarray(1_500));
    await upload.commit(blob.descriptor.digest);
    expect(tokens.asked()).toBe(before + 3);
    expect(await readAll(await client(ann).getBlob('a/b', blob.descriptor.digest))).toEqual(blob.bytes);
  });

  it.each([{ rotates: false }, { rotates: true }])(
    'is reached with a refresh token that rotates: $rotates',
    async ({ rotates }) => {
      const { tokens, client } = await world();
      tokens.refreshTokens.set('first-refresh-token', 'ann');
      tokens.rotates = rotates;
      const registry = client({ kind: 'refresh-token', token: 'first-refresh-token' });
      await registry.ping();
      // Different scopes at the same time, and each answer may void the token that the others hold.
      await Promise.all(['a', 'b', 'c', 'd'].map(async (name) => await pushImage(registry, name, 'v1')));
      expect(tokens.issued.every(({ grant, user }) => grant === 'refresh_token' && user === 'ann')).toBe(true);
      expect(tokens.refreshTokens.has('first-refresh-token')).toBe(!rotates);
    },
  );

  it('is reached where the token server has no POST, by GET with the refresh token for a password', async () => {
    const { tokens, client } = await world();
    tokens.passwords.set('', 'first-refresh-token');
    tokens.refreshTokens.set('first-refresh-token', 'ann');
    for (const status of [404, 405, 400, 401]) {
      tokens.fault = (request, response) => request.method === 'POST' && (response.writeHead(status).end(), true);
      await client({ kind: 'refresh-token', token: 'first-refresh-token' }).ping();
    }
    expect(tokens.issued.map(({ grant }) => grant)).toEqual(['password', 'password', 'password', 'password']);
  });

  it('is asked for exactly what it named where its token server refuses more', async () => {
    const { tokens, client } = await world();
    const blob = content(100);
    await push(client(ann), 'a/b', blob);
    for (const status of [400, 401]) {
      tokens.fault = (_request, response, { scopes }) =>
        scopes.join() !== 'repository:a/b:pull' && (response.writeHead(status).end(), true);
      const registry = client(ann, { scope: 'repository:c:pull' });
      await registry.resolveBlob('a/b', blob.descriptor.digest);
      await registry.resolveBlob('a/b', blob.descriptor.digest);
    }
  });

  it('is waited for while its token server is ill', async () => {
    const { tokens, client } = await world();
    await pushImage(client(ann), 'a/b', 'v1');
    let ill = 2;
    tokens.fault = (request, response) => {
      ill -= 1;
      if (ill === 1) response.writeHead(503).end();
      else if (ill === 0) request.socket.destroy();
      return ill >= 0;
    };
    await client(bob).resolveTag('a/b', 'v1');
    const before = tokens.asked();
    tokens.fault = (_request, response) => (response.writeHead(429).end(), true);
    await expect(client(bob).resolveTag('a/b', 'v1')).rejects.toMatchObject({ code: 'TOOMANYREQUESTS' });
    expect(tokens.asked()).toBe(before + 3);
  });

  it('knows a person per repository, as the keys of an auth file say and as skopeo reads them', async () => {
    const { tokens, host, client } = await world();
    await pushImage(client(ann), 'ann/deep/app', 'v1');
    await pushImage(client(ann), 'team/app', 'v1');
    const configFile = path.join(tempDir(), 'auth.json');
    const auth = (text: string) => ({ auth: Buffer.from(text).toString('base64') });
    const auths = { [host]: auth('bob:bob-secret'), [`${host}/ann`]: auth('ann:ann-secret') };
    writeFileSync(configFile, JSON.stringify({ auths }));
    const before = tokens.issued.length;
    const registry = new RemoteRegistry({ host, credentials: new DockerCredentials({ configFile }) });
    onTestFinished(async () => await registry.close());
    await registry.resolveTag('team/app', 'v1');
    await registry.resolveTag('ann/deep/app', 'v1');
    await registry.resolveTag('team/app', 'v1');
    expect(tokens.issued.slice(before).map(({ user }) => user)).toEqual(['bob', 'ann']);
    for (const name of ['team/app', 'ann/deep/app']) {
      const args = ['inspect', '--raw', '--tls-verify=false', '--authfile', configFile, `docker://${host}/${name}:v1`];
      expect(await run('skopeo', args)).toMatchObject({ code: 0 });
    }
    expect(tokens.issued.slice(before + 2).map(({ user }) => user)).toEqual(['bob', 'ann']);
  });
});
