import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { credentialPlaces } from '../../../src/config/credential-places.ts';
import { readEnvironment } from '../../../src/config/environment.ts';
import { anonymous, firstCredentials, staticCredentials } from '../../../src/registry/auth/credentials.ts';
import type { Credentials } from '../../../src/registry/auth/credentials.ts';
import { userCredentials } from '../../../src/registry/auth/user-credentials.ts';
import { tempDir } from '../../support/tmp.ts';

function auths(...entries: readonly (readonly [string, string])[]): string {
  const list = entries.map(([key, name]) => [key, { auth: Buffer.from(`${name}:p`).toString('base64') }]);
  return JSON.stringify({ auths: Object.fromEntries(list) });
}

describe('credentialPlaces', () => {
  it.each([
    [
      'a bare environment',
      { HOME: '/h' },
      ['/h/.docker/config.json', '/run/containers/7/auth.json', '/h/.config/containers/auth.json'],
    ],
    [
      'the folders of a desktop',
      { HOME: '/h', XDG_RUNTIME_DIR: '/run/user/7', XDG_CONFIG_HOME: '/c', DOCKER_CONFIG: '/d' },
      ['/d/config.json', '/run/user/7/containers/auth.json', '/c/containers/auth.json'],
    ],
    [
      'a file named for podman',
      { HOME: '/h', XDG_RUNTIME_DIR: '/run/user/7', REGISTRY_AUTH_FILE: '/a.json' },
      ['/h/.docker/config.json', '/a.json', '/h/.config/containers/auth.json'],
    ],
  ])('of %s', (_name, variables, files) => {
    expect(credentialPlaces(readEnvironment(variables), 7).files).toEqual(files);
  });
});

describe('userCredentials', () => {
  it('takes the first place that knows the registry', async () => {
    const home = tempDir();
    const runtime = tempDir();
    const write = (file: string, text: string) => {
      mkdirSync(path.dirname(file), { recursive: true });
      writeFileSync(file, text);
    };
    write(`${home}/.docker/config.json`, auths(['inline.io', 'docker'], ['docker.io', 'docker']));
    write(
      `${runtime}/containers/auth.json`,
      auths(['docker.io', 'podman'], ['podman.io/team', 'team'], ['x.io', 'run']),
    );
    write(`${home}/.config/containers/auth.json`, auths(['podman.io', 'user'], ['x.io', 'user']));
    const environment = readEnvironment({
      HOME: home,
      XDG_RUNTIME_DIR: runtime,
      DOCKER_AUTH_CONFIG: auths(['inline.io', 'inline']),
    });
    const credentials = userCredentials(credentialPlaces(environment, 0));
    const nameOf = async (host: string, repository?: string) => {
      const found = await credentials.lookup(host, { repository });
      return found?.kind === 'password' ? found.username : undefined;
    };
    expect(await nameOf('inline.io')).toBe('inline');
    expect(await nameOf('docker.io', 'library/debian')).toBe('docker');
    expect(await nameOf('podman.io', 'team/app')).toBe('team');
    expect(await nameOf('podman.io', 'other')).toBe('user');
    expect(await nameOf('x.io')).toBe('run');
    expect(await nameOf('nobody.io')).toBeUndefined();
  });

  it('names the variable that holds nonsense, not what it holds', async () => {
    const environment = readEnvironment({ HOME: tempDir(), DOCKER_AUTH_CONFIG: '{"auths":{"r.io":{"auth":se:cret}}}' });
    const error: unknown = await userCredentials(credentialPlaces(environment, 0))
      .lookup('r.io')
      .catch((e: unknown) => e);
    expect(error).toMatchObject({
      code: 'CREDENTIALS_INVALID',
      message: 'variable DOCKER_AUTH_CONFIG: not valid json at line 1, column 26',
    });
    expect(inspect(error, { depth: null })).not.toContain('se:cret');
  });
});

describe('sources', () => {
  const ann: Credentials = { kind: 'password', username: 'ann', password: 'p' };

  it('that were given by hand speak for their hosts only', async () => {
    const given = staticCredentials(ann, ['r.io', 'localhost:5000']);
    expect(await given.lookup('r.io')).toEqual(ann);
    expect(await given.lookup('localhost:5000')).toEqual(ann);
    expect(await given.lookup('localhost')).toBeUndefined();
    expect(inspect(given, { depth: null, showHidden: true })).not.toContain('ann');
  });

  it('are asked in order until one knows the host', async () => {
    const bob: Credentials = { ...ann, username: 'bob' };
    const all = firstCredentials([
      anonymous,
      staticCredentials(ann, ['r.io']),
      staticCredentials(bob, ['r.io', 's.io']),
    ]);
    expect(await all.lookup('r.io')).toEqual(ann);
    expect(await all.lookup('s.io')).toEqual(bob);
    expect(await all.lookup('t.io')).toBeUndefined();
  });
});
