import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import type { Credentials } from '../../../src/registry/auth/credentials.ts';
import { DockerCredentials } from '../../../src/registry/auth/docker-config.ts';
import { tempDir } from '../../support/tmp.ts';
import { password } from '../../support/token-world.ts';

describe('DockerCredentials', () => {
  function config(value: unknown): DockerCredentials {
    const configFile = path.join(tempDir(), 'config.json');
    writeFileSync(configFile, typeof value === 'string' ? value : JSON.stringify(value));
    return new DockerCredentials({ configFile });
  }

  const auth = Buffer.from('ann:se:cret').toString('base64');
  const padded = Buffer.from('ann:se:cret\0\0').toString('base64');

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
      { kind: 'refresh-token', token: 't', username: 'ann' },
    ],
    [
      'an identity token alone',
      { auths: { 'r.io': { identitytoken: 't' } } },
      'r.io',
      { kind: 'refresh-token', token: 't' },
    ],
    ['a password padded with NULs', { auths: { 'r.io': { auth: padded } } }, 'r.io', password],
    ['a URL without credentials beside another', { auths: { 'r.io': {}, 'https://r.io': { auth } } }, 'r.io', password],
    ['an API path', { auths: { 'r.io/v2/': { auth } } }, 'r.io', password],
    ['null', { auths: null, credHelpers: null }, 'r.io', undefined],
    ['an empty file', '', 'r.io', undefined],
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

  it.each([
    ['a helper that is not installed', { credHelpers: { 'r.io': 'not-installed-here' } }, 'not installed'],
    ['a helper that is a path', { credHelpers: { 'r.io': '../../bin/sh' } }, 'not a credential helper'],
    ['a file that is not json', '{"auths": {\n"r.io": {"auth": "c2VjcmV0', 'not valid json at line 2, column 18'],
    ['a file that is a list', '[]', 'not an object'],
    ['a helper that is no text', { credHelpers: { 'x.io': ['one'] } }, 'credHelpers["x.io"] is not a text'],
    ['a store that is no text', { credsStore: true }, 'credsStore is not a text'],
    ['auths that are none', { auths: ['r.io'] }, 'auths is not an object'],
    ['an entry that is none', { auths: { 'r.io': 'c2VjcmV0' } }, 'auths["r.io"] is not an object'],
    [
      'an auth that is not base64',
      { auths: { 'r.io': { auth: 'user:password' } } },
      'auths["r.io"].auth is not base64',
    ],
    ['a file that is too long', ' '.repeat(1_100_000), 'more than 1048576 bytes'],
    [
      'an auth that is none',
      { auths: { 'r.io': { auth: Buffer.from('secret').toString('base64') } } },
      'not base64 of user:password',
    ],
  ])('refuses %s', async (_name, value, message) => {
    const error: unknown = await config(value)
      .lookup('r.io')
      .catch((e: unknown) => e);
    expect(error).toMatchObject({ code: 'CREDENTIALS_INVALID', message: expect.stringContaining(message) });
    expect(inspect(error, { depth: null })).not.toMatch(/c2VjcmV0|user:password(?!$)/m);
  });

  it.each([
    ['team/app/image', 'image'],
    ['team/app/other', 'team'],
    ['team/application', 'team'],
    ['teams/app', 'host'],
    ['other', 'host'],
    [undefined, 'host'],
  ])('knows the most specific person for %s', async (repository, username) => {
    const entry = (name: string) => ({ auth: Buffer.from(`${name}:p`).toString('base64') });
    const auths = {
      'r.io/team/app/image': entry('image'),
      'r.io/team/app': {},
      'r.io/team': entry('team'),
      'https://r.io/v2/': entry('host'),
      'r.io:5000/team/app/image': entry('another port'),
    };
    expect(await config({ auths }).lookup('r.io', { repository })).toMatchObject({ username });
  });

  it('has no one for a host of which only a part is known', async () => {
    expect(await config({ auths: { 'r.io/team': { auth } } }).lookup('r.io')).toBeUndefined();
  });

  it('knows the namespaces of Docker Hub by all its names', async () => {
    const credentials = config({ auths: { 'index.docker.io/team': { auth } } });
    expect(await credentials.lookup('docker.io', { repository: 'team/app' })).toEqual(password);
  });

  it('notices that the file changed, and reads it again when what it said was refused', async () => {
    const configFile = path.join(tempDir(), 'config.json');
    const credentials = new DockerCredentials({ configFile });
    const write = (name: string) =>
      writeFileSync(configFile, JSON.stringify({ auths: { 'r.io': { username: name, password: 'p' } } }));
    expect(await credentials.lookup('r.io')).toBeUndefined();
    write('one');
    expect(await credentials.lookup('r.io')).toMatchObject({ username: 'one' });
    write('other');
    expect(await credentials.lookup('r.io')).toMatchObject({ username: 'other' });
    write('third');
    expect(await credentials.lookup('r.io', { fresh: true })).toMatchObject({ username: 'third' });
    rmSync(configFile);
    expect(await credentials.lookup('r.io')).toBeUndefined();
  });

  it('does not wait for a pipe that nobody writes to', async () => {
    const configFile = path.join(tempDir(), 'config.json');
    execFileSync('mkfifo', [configFile]);
    expect(await new DockerCredentials({ configFile }).lookup('r.io')).toBeUndefined();
  });

  it('says which file cannot be read', async () => {
    const configFile = tempDir();
    await expect(new DockerCredentials({ configFile }).lookup('r.io')).rejects.toMatchObject({
      code: 'CREDENTIALS_INVALID',
      message: `credentials file ${configFile}: cannot be read`,
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
});
