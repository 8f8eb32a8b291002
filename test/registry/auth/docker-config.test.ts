import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import type { Credentials } from '../../../src/registry/auth/credentials.ts';
import { DockerCredentials } from '../../../src/registry/auth/docker-config.ts';
import { tempDir } from '../../support/tmp.ts';
import { password } from '../../support/token-world.ts';

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
