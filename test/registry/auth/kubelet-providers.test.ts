// Credentials from the programs of a kubelet: real programs, a clock of the test's own.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { silentLog } from '../../../src/observe/log.ts';
import { parseGoDuration } from '../../../src/registry/auth/kubelet/go-duration.ts';
import { KubeletProviders } from '../../../src/registry/auth/kubelet/kubelet-providers.ts';
import { bySpecificity, matchesImage } from '../../../src/registry/auth/kubelet/match-image.ts';
import { parseProviderConfig } from '../../../src/registry/auth/kubelet/provider-config.ts';
import { tempDir } from '../../support/tmp.ts';

describe('matchesImage', () => {
  it.each<[string, string, boolean]>([
    // Those of the kubelet's own tests (pkg/credentialprovider/keyring_test.go).
    ['*.kubernetes.io', 'prefix.kubernetes.io', true],
    ['prefix.*.io', 'prefix.kubernetes.io', true],
    ['prefix.kubernetes.*', 'prefix.kubernetes.io', true],
    ['*-good.kubernetes.io', 'prefix-good.kubernetes.io', true],
    ['*.kubernetes.io/blah', 'prefix.kubernetes.io/blah', true],
    ['prefix.*.io/foo', 'prefix.kubernetes.io/foo/bar', true],
    ['*.kubernetes.io:1111/blah', 'prefix.kubernetes.io:1111/blah', true],
    ['*.kubernetes.io', 'kubernetes.io', false],
    ['*.*.kubernetes.io', 'prefix.kubernetes.io', false],
    ['*kubernetes.io', 'a.kubernetes.io', false],
    ['kubernetes.io', 'kubernetes.com', false],
    ['kubernetes.*', 'registry.k8s.io', false],
    ['*.kubernetes.io', 'prefix.kubernetes.io:80', false],
    ['*.kubernetes.io:80', 'prefix.kubernetes.io', false],
    ['*.kubernetes.io/bar', 'prefix.kubernetes.io/foo', false],
    ['*.dkr.ecr.*.amazonaws.com', '123.dkr.ecr.eu-west-1.amazonaws.com/team/app', true],
    ['*.dkr.ecr.*.amazonaws.com', '123.dkr.ecr.eu-west-1.amazonaws.com.evil.example/x', false],
    ['app*.k8s.io', 'app1.k8s.io/x', true],
    ['a*b*c.io', 'aXbYbZc.io', true],
    ['a*b*c.io', 'acb.io', false],
    ['a?c.io', 'abc.io', true],
    ['*', 'localhost/x', true],
    ['*', 'r.io/x', false],
    ['index.docker.io', 'docker.io/library/debian', true],
    ['https://r.io/', 'r.io/x', true],
  ])('%s for %s: %s', (glob, image, expected) => {
    expect(matchesImage(glob, image)).toBe(expected);
  });

  it('takes no time for a glob made to take long', () => {
    expect(matchesImage(`${'a*'.repeat(400)}b.io`, `${'a'.repeat(900)}.io`)).toBe(false);
  });

  it('knows which of several says most', () => {
    expect(['*.io', 'r.io', 'r.io/team', 'r.io/team/app', '*.*'].sort(bySpecificity)).toEqual([
      'r.io/team/app',
      'r.io/team',
      'r.io',
      '*.io',
      '*.*',
    ]);
  });
});

describe('parseGoDuration', () => {
  it.each([
    ['12h', 43_200_000],
    ['1h30m5s', 5_405_000],
    ['1.5h', 5_400_000],
    ['0', 0],
    ['0s', 0],
    ['300ms', 300],
    ['-1m', -60_000],
    ['12', undefined],
    ['', undefined],
    ['1d', undefined],
    ['h', undefined],
    ['1 h', undefined],
  ])('%s is %s ms', (text, ms) => {
    expect(parseGoDuration(text)).toBe(ms);
  });
});

interface Entry {
  readonly name?: string;
  readonly matchImages?: readonly string[];
  readonly [field: string]: unknown;
}

function configOf(entries: readonly Entry[], version = 'v1'): string {
  const providers = entries.map((entry) => ({
    name: 'p1',
    matchImages: ['r.io'],
    defaultCacheDuration: '10m',
    apiVersion: 'credentialprovider.kubelet.k8s.io/v1',
    ...entry,
  }));
  return JSON.stringify({
    apiVersion: `kubelet.config.k8s.io/${version}`,
    kind: 'CredentialProviderConfig',
    providers,
  });
}

function world(entries: readonly Entry[] = [{}], version = 'v1') {
  const dir = tempDir();
  const configFile = path.join(dir, 'config.yaml');
  const startsFile = path.join(dir, 'starts');
  const configure = (list: readonly Entry[]) => writeFileSync(configFile, configOf(list, version));
  configure(entries);
  let now = 0;
  const open = (more: { timeoutMs?: number } = {}) =>
    new KubeletProviders({
      configFile,
      binDir: dir,
      env: { PATH: process.env['PATH'] ?? '' },
      log: silentLog(),
      now: () => now,
      ...more,
    });
  return {
    dir,
    configFile,
    configure,
    open,
    wait: (ms: number) => (now += ms),
    starts: () => (existsSync(startsFile) ? readFileSync(startsFile, 'utf8').trim().split('\n') : []),
    /** Runs in `sh`; by default it answers what the file `<name>.json` holds. */
    install: (script = '', name = 'p1') => {
      const lines = ['#!/bin/sh', 'read -r request', `echo "$request $*" >> ${startsFile}`, script];
      writeFileSync(path.join(dir, name), `${lines.join('\n')}\ncat ${dir}/${name}.json\n`, { mode: 0o755 });
    },
    answer: (auth: unknown, more: Readonly<Record<string, unknown>> = {}, name = 'p1') => {
      const answer = {
        kind: 'CredentialProviderResponse',
        apiVersion: 'credentialprovider.kubelet.k8s.io/v1',
        cacheKeyType: 'Image',
        auth,
        ...more,
      };
      writeFileSync(path.join(dir, `${name}.json`), JSON.stringify(answer));
    },
  };
}

const user = (name: string) => ({ username: name, password: `${name}-secret` });
const known = (name: string) => ({ kind: 'password', ...user(name) });

describe('kubelet credential providers', () => {
  it('are asked as a kubelet asks them, and the answer that says most is taken', async () => {
    const { open, install, answer, starts } = world([
      { matchImages: ['*.r.io', 'r.io'], args: ['get', 'it'], env: [{ name: 'WHO', value: 'me' }] },
    ]);
    install('[ "$WHO" = me ] && [ -z "$PEEL_TEST_RUN$VITEST" ] || exit 3');
    answer({ 'r.io': user('host'), '*.io': user('any'), 'r.io/team': user('team'), 'other.io': user('other') });
    const providers = open();
    expect(await providers.lookup('r.io', { repository: 'team/app' })).toEqual(known('team'));
    expect(await providers.lookup('r.io', { repository: 'else' })).toEqual(known('host'));
    expect(await providers.lookup('s.io', { repository: 'else' })).toBeUndefined();
    expect(starts()).toEqual([
      '{"kind":"CredentialProviderRequest","apiVersion":"credentialprovider.kubelet.k8s.io/v1","image":"r.io/team/app"} get it',
      '{"kind":"CredentialProviderRequest","apiVersion":"credentialprovider.kubelet.k8s.io/v1","image":"r.io/else"} get it',
    ]);
  });

  it('are asked again when what they said has expired', async () => {
    const { open, install, answer, starts, wait } = world();
    install();
    const providers = open();
    const ask = async (repository = 'a', fresh = false) => {
      await providers.lookup('r.io', { repository, fresh });
      return starts().length;
    };
    answer({ 'r.io': user('a') }, { cacheDuration: '1h30m' });
    expect(await ask()).toBe(1);
    wait(5_399_000);
    expect(await ask()).toBe(1);
    wait(1_000);
    expect(await ask()).toBe(2);
    // As the configuration says: ten minutes.
    answer({ 'r.io': user('b') }, { cacheDuration: null });
    expect(await ask('b')).toBe(3);
    wait(599_999);
    expect(await ask('b')).toBe(3);
    wait(1);
    expect(await ask('b')).toBe(4);
    answer({ 'r.io': user('c') }, { cacheDuration: '0s' });
    expect(await ask('c')).toBe(5);
    expect(await ask('c')).toBe(6);
  });

  it('are asked again when the registry refuses what they said', async () => {
    const { open, install, answer } = world();
    install();
    const providers = open();
    answer({ 'r.io': user('old') }, { cacheKeyType: 'Global', cacheDuration: '12h' });
    expect(await providers.lookup('r.io', { repository: 'a' })).toEqual(known('old'));
    answer({ 'r.io': user('new') }, { cacheKeyType: 'Image', cacheDuration: '12h' });
    expect(await providers.lookup('r.io', { repository: 'b' })).toEqual(known('old'));
    expect(await providers.lookup('r.io', { repository: 'a', fresh: true })).toEqual(known('new'));
    expect(await providers.lookup('r.io', { repository: 'a' })).toEqual(known('new'));
    expect(await providers.lookup('r.io', { repository: 'b' })).toEqual(known('new'));
  });

  it.each<[string, number]>([
    ['Image', 3],
    ['Registry', 2],
    ['Global', 1],
  ])('say what an answer is good for: %s', async (cacheKeyType, expected) => {
    const { open, install, answer, starts } = world([{ matchImages: ['*.io'] }]);
    install();
    answer({ '*.io': user('a') }, { cacheKeyType });
    const providers = open();
    for (const [host, repository] of [
      ['r.io', 'a'],
      ['r.io', 'b'],
      ['s.io', 'a'],
      ['r.io', 'a'],
    ] as const)
      expect(await providers.lookup(host, { repository })).toEqual(known('a'));
    expect(starts()).toHaveLength(expected);
  });

  it('are asked once by many at the same time', async () => {
    const { open, install, answer, starts } = world();
    install('sleep 0.2');
    answer({ 'r.io': user('a') });
    const providers = open();
    const all = Array.from({ length: 10 }, () => providers.lookup('r.io', { repository: 'a' }));
    expect(await Promise.all(all)).toEqual(all.map(() => known('a')));
    expect(starts()).toHaveLength(1);
  });

  it('are asked one after the other until one knows', async () => {
    const { open, install, answer, starts } = world([
      { name: 'missing' },
      { name: 'pod', tokenAttributes: { serviceAccountTokenAudience: 'x' } },
      { name: 'none' },
      { name: 'p1' },
    ]);
    for (const name of ['pod', 'none', 'p1']) install('', name);
    answer(null, {}, 'none');
    answer({ 'r.io': user('pod') }, {}, 'pod');
    answer({ 'r.io': user('a') });
    const providers = open();
    expect(await providers.lookup('r.io', { repository: 'a' })).toEqual(known('a'));
    expect(starts()).toHaveLength(2);
  });

  it.each<[string, string, RegExp]>([
    ['ends badly', 'echo top-secret >&2; echo top-secret; exit 7', /p1 ended with status 7$/],
    ['talks nonsense', 'echo top-secret; exit 0', /p1 answered with something that is not valid$/],
    ['never ends', 'echo top-secret; sleep 60', /p1 did not answer within 500 ms$/],
    ['never stops', 'yes top-secret', /p1 answered with too much$/],
    [
      'answers in another version',
      `echo '{"kind":"CredentialProviderResponse","apiVersion":"x/v9","cacheKeyType":"Image","auth":{"top-secret":{"username":"u","password":"top-secret"}}}'; exit 0`,
      /p1 answered in another version than credentialprovider\.kubelet\.k8s\.io\/v1$/,
    ],
    [
      'answers with the wrong form',
      `echo '{"kind":"CredentialProviderResponse","apiVersion":"x","cacheKeyType":"Image","auth":{"r.io":"top-secret"}}'; exit 0`,
      /p1 answered with something that is not valid \(auth\)$/,
    ],
  ])('that one %s is told without what it said', async (_name, script, message) => {
    const { open, install, answer } = world();
    install(script);
    answer(null);
    const error: unknown = await open({ timeoutMs: script.endsWith('sleep 60') ? 500 : 20_000 })
      .lookup('r.io', { repository: 'a' })
      .catch((failure: unknown) => failure);
    expect(error).toMatchObject({ code: 'CREDENTIALS_INVALID', message: expect.stringMatching(message) });
    expect(inspect(error, { depth: null })).not.toContain('top-secret');
  });

  it('are those that the file names now', async () => {
    const { open, install, answer, configure, configFile } = world([{ matchImages: ['other.io'] }]);
    install();
    answer({ 'r.io': user('a') });
    const providers = open();
    expect(await providers.lookup('r.io', { repository: 'a' })).toBeUndefined();
    configure([{ matchImages: ['another.io', 'r.io'] }]);
    expect(await providers.lookup('r.io', { repository: 'a' })).toEqual(known('a'));
    writeFileSync(configFile, 'providers: [');
    await expect(providers.lookup('r.io', { repository: 'a' })).rejects.toMatchObject({
      code: 'CREDENTIALS_INVALID',
      message: `kubelet credential provider configuration ${configFile}: not valid yaml at line 1`,
    });
  });
});

describe('parseProviderConfig', () => {
  it.each(['v1', 'v1beta1', 'v1alpha1'])('takes %s, in YAML', (version) => {
    const text = `
apiVersion: kubelet.config.k8s.io/${version}
kind: CredentialProviderConfig
providers:
  - name: ecr-credential-provider
    matchImages:
      - "*.dkr.ecr.*.amazonaws.com"
    defaultCacheDuration: "12h"
    apiVersion: credentialprovider.kubelet.k8s.io/${version}
    args: [get-credentials]
    env:
      - name: AWS_PROFILE
        value: node
    somethingNew: 1
`;
    expect(parseProviderConfig(text, 'it')).toEqual([
      {
        name: 'ecr-credential-provider',
        matchImages: ['*.dkr.ecr.*.amazonaws.com'],
        cacheMs: 43_200_000,
        apiVersion: `credentialprovider.kubelet.k8s.io/${version}`,
        args: ['get-credentials'],
        env: { AWS_PROFILE: 'node' },
        wantsServiceAccount: false,
      },
    ]);
  });

  it.each<[string, string, RegExp]>([
    ['another kind', '{"apiVersion":"kubelet.config.k8s.io/v1","kind":"Pod"}', /^it: kind: /],
    ['nothing', '', /^it: the document: /],
    ['a path as name', configOf([{ name: '../evil' }]), /^it: providers\.0\.name: expected the name of a program/],
    ['a folder as name', configOf([{ name: '..' }]), /^it: providers\.0\.name: /],
    ['no images', configOf([{ matchImages: [] }]), /^it: providers\.0\.matchImages: /],
    ['a time that is none', configOf([{ defaultCacheDuration: 'soon' }]), /^it: providers\.0\.defaultCacheDuration: /],
    ['a time below none', configOf([{ defaultCacheDuration: '-1h' }]), /^it: providers\.0\.defaultCacheDuration: /],
    ['an unknown version', configOf([{ apiVersion: 'x/v1' }]), /^it: providers\.0\.apiVersion: /],
    [
      'a variable without a name',
      configOf([{ env: [{ name: '', value: 'top-secret' }] }]),
      /^it: providers\.0\.env\.0\.name: /,
    ],
  ])('refuses %s', (_name, text, message) => {
    let said = '';
    try {
      parseProviderConfig(text, 'it');
    } catch (error) {
      said = (error as Error).message;
    }
    expect(said).toMatch(message);
    expect(said).not.toContain('top-secret');
  });
});
