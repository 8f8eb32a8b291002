// Pull secrets of a cluster: a TLS server that lists and watches as an API server does, and real login programs.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, describe, expect, it, onTestFinished } from 'vitest';
import { createLog } from '../../../src/observe/log.ts';
import type { Credentials } from '../../../src/registry/auth/credentials.ts';
import { KubePullSecrets } from '../../../src/registry/auth/kube/kube-pull-secrets.ts';
import { readKubeconfig } from '../../../src/registry/auth/kube/kubeconfig.ts';
import { TestAuthority } from '../../support/certificates.ts';
import { KubeApi } from '../../support/kube-api.ts';
import { keptTempDir, tempDir } from '../../support/tmp.ts';

const dir = keptTempDir();
const authority = new TestAuthority(dir.path);
const serverCertificate = authority.issue('server');
const nodeCertificate = authority.issue('node');
afterAll(() => dir[Symbol.dispose]());

const auth = (name: string) => ({ auth: Buffer.from(`${name}:${name}-secret`).toString('base64') });
const known = (name: string): Credentials => ({ kind: 'password', username: name, password: `${name}-secret` });

interface Setup {
  readonly user?: Readonly<Record<string, unknown>>;
  readonly cluster?: Readonly<Record<string, unknown>>;
  readonly start?: boolean;
}

async function world({ user = { token: 'good' }, cluster = {}, start = true }: Setup = {}) {
  const root = tempDir();
  const api = await new KubeApi(serverCertificate, authority.caFile).start();
  api.users = new Set(['good']);
  const kubeconfig = path.join(root, 'kubeconfig');
  const configure = (whose: Readonly<Record<string, unknown>>) => {
    const config = {
      apiVersion: 'v1',
      kind: 'Config',
      'current-context': 'main',
      contexts: [{ name: 'main', context: { cluster: 'c', user: 'u', namespace: 'x' } }],
      clusters: [{ name: 'c', cluster: { server: api.url, 'certificate-authority': authority.caFile, ...cluster } }],
      users: [
        { name: 'other', user: { exec: { apiVersion: 'old' } } },
        { name: 'u', user: whose },
      ],
    };
    writeFileSync(kubeconfig, JSON.stringify(config));
  };
  configure(user);
  if (!start) await api.stop();
  let now = Date.parse('2024-01-01T00:00:00Z');
  const logFile = path.join(root, 'log');
  const open = () => {
    const secrets = new KubePullSecrets({
      kubeconfig,
      env: { PATH: process.env['PATH'] ?? '' },
      log: createLog({ level: 'debug', to: logFile }),
      backoff: { baseMs: 20, maxMs: 20 },
      now: () => now,
    });
    onTestFinished(() => secrets.close());
    return secrets;
  };
  return {
    root,
    api,
    kubeconfig,
    configure,
    open,
    wait: (ms: number) => (now += ms),
    log: () => (existsSync(logFile) ? readFileSync(logFile, 'utf8') : ''),
  };
}

/** Until `check` holds; the tests' own time limit ends it. */
async function until(check: () => unknown): Promise<void> {
  while (!(await check())) await delay(10);
}

async function untilKnown(secrets: KubePullSecrets, name: string | undefined, repository = 'a'): Promise<void> {
  await until(async () => {
    const found = await secrets.lookup('r.io', { repository });
    return (found?.kind === 'password' ? found.username : undefined) === name;
  });
}

describe('pull secrets of a cluster', () => {
  it('are found in both forms, by registry and by repository', async () => {
    const { api, open } = await world();
    api.put('one/a', { 'r.io': auth('host'), 'r.io/team': auth('team'), 'https://index.docker.io/v1/': auth('hub') });
    api.put('two/b', { 'old.io': { username: 'old', password: 'old-secret' } }, { type: 'kubernetes.io/dockercfg' });
    api.put('two/c', { 'r.io': auth('opaque') }, { type: 'Opaque' });
    const secrets = open();
    expect(await secrets.lookup('r.io', { repository: 'a' })).toEqual(known('host'));
    expect(await secrets.lookup('r.io', { repository: 'team/app' })).toEqual(known('team'));
    expect(await secrets.lookup('docker.io', { repository: 'library/debian' })).toEqual(known('hub'));
    expect(await secrets.lookup('old.io')).toEqual(known('old'));
    expect(await secrets.lookup('nobody.io')).toBeUndefined();
    expect(api.requests.filter(({ kind }) => kind === 'list').map(({ type }) => type)).toEqual(
      expect.arrayContaining(['kubernetes.io/dockerconfigjson', 'kubernetes.io/dockercfg']),
    );
  });

  it('follow what changes', async () => {
    const { api, open } = await world();
    const secrets = open();
    expect(await secrets.lookup('r.io', { repository: 'a' })).toBeUndefined();
    await until(() => api.watchers === 2);
    api.put('one/a', { 'r.io': auth('first') });
    await untilKnown(secrets, 'first');
    api.bookmark();
    api.put('one/a', { 'r.io': auth('second') });
    await untilKnown(secrets, 'second');
    api.delete('one/a');
    await untilKnown(secrets, undefined);
    expect(api.requests.filter(({ kind }) => kind === 'list')).toHaveLength(2);
  });

  it('are listed in pages', async () => {
    const { api, open } = await world();
    api.pageSize = 3;
    for (let i = 0; i < 10; i += 1) api.put(`n/s${i}`, { [`r${i}.io`]: auth(`u${i}`) });
    const secrets = open();
    for (let i = 0; i < 10; i += 1) expect(await secrets.lookup(`r${i}.io`)).toEqual(known(`u${i}`));
  });

  it.each(['end', 'break'] as const)('go on from where a watch did %s', async (how) => {
    const { api, open } = await world();
    const secrets = open();
    await until(() => api.watchers === 2);
    api.endWatches(how);
    api.put('one/a', { 'r.io': auth('meanwhile') });
    await untilKnown(secrets, 'meanwhile');
  });

  it('are listed anew when the past is gone', async () => {
    const { api, open } = await world();
    api.put('one/a', { 'r.io': auth('old') });
    const secrets = open();
    await until(() => api.watchers === 2);
    // Nobody is told of this.
    api.endWatches();
    api.delete('one/a');
    api.put('one/b', { 'r.io': auth('new') });
    api.compact();
    await untilKnown(secrets, 'new');
    await until(() => api.watchers === 2);
    api.say('{"type":"ERROR","object":{"kind":"Status","code":410}}\n');
    const lists = api.requests.filter(({ kind }) => kind === 'list').length;
    await until(() => api.requests.filter(({ kind }) => kind === 'list').length >= lists + 2);
    await untilKnown(secrets, 'new');
  });

  it.each([
    ['no JSON', 'nonsense\n'],
    ['another form', '{"type":"ADDED"}\n'],
    ['an unknown event', '{"type":"NEW","object":{}}\n'],
    ['an error', '{"type":"ERROR","object":{"code":500}}\n'],
    ['a line without end', 'x'.repeat(5 << 20)],
  ])('survive a watch that says %s', async (_name, text) => {
    const { api, open } = await world();
    api.put('one/a', { 'r.io': auth('a') });
    const secrets = open();
    await until(() => api.watchers === 2);
    api.say(text);
    const lists = api.requests.filter(({ kind }) => kind === 'list').length;
    await until(() => api.requests.filter(({ kind }) => kind === 'list').length >= lists + 2);
    api.put('one/a', { 'r.io': auth('b') });
    await untilKnown(secrets, 'b');
  });

  it('are kept while the server is away, which is said once for each', async () => {
    const { api, open, log } = await world();
    api.put('one/a', { 'r.io': auth('kept') });
    const secrets = open();
    await untilKnown(secrets, 'kept');
    await until(() => api.watchers === 2);
    await api.stop();
    await until(() => log().split('connection refused').length > 2);
    await delay(300);
    expect(await secrets.lookup('r.io', { repository: 'a' })).toEqual(known('kept'));
    expect(log().split('connection refused')).toHaveLength(3);
    api.put('one/a', { 'r.io': auth('changed') });
    await api.start();
    await untilKnown(secrets, 'changed');
    expect(log()).not.toContain('kept-secret');
  });

  it('are answered without when the server was never there, and are there when it comes', async () => {
    const { api, open } = await world({ start: false });
    const secrets = open();
    expect(await secrets.lookup('r.io', { repository: 'a' })).toBeUndefined();
    api.put('one/a', { 'r.io': auth('late') });
    await api.start();
    await untilKnown(secrets, 'late');
  });

  it('wait for the first list no longer than the caller', async () => {
    const { api, open } = await world();
    api.fault = () => true;
    const secrets = open();
    await expect(secrets.lookup('r.io', { signal: AbortSignal.timeout(50) })).rejects.toMatchObject({
      name: 'TimeoutError',
    });
  });

  it('make way for one another when they are refused, the newest first', async () => {
    const { api, open } = await world();
    api.put('one/a', { 'r.io': auth('older') }, { createdAt: '2024-01-01T00:00:00Z' });
    api.put('two/a', { 'r.io': auth('newest') }, { createdAt: '2024-03-01T00:00:00Z' });
    api.put('two/b', { 'r.io': { auth: '%' } }, { createdAt: '2024-04-01T00:00:00Z' });
    api.put('two/c', {}, { text: '{ no json: newest-secret', createdAt: '2024-05-01T00:00:00Z' });
    api.put('three/a', { 'r.io/team': auth('team') }, { createdAt: '2023-01-01T00:00:00Z' });
    const secrets = open();
    const ask = async (fresh: boolean) => await secrets.lookup('r.io', { repository: 'team/app', fresh });
    expect(await ask(false)).toEqual(known('team'));
    expect(await ask(true)).toEqual(known('newest'));
    expect(await ask(false)).toEqual(known('newest'));
    expect(await ask(true)).toEqual(known('older'));
    expect(await ask(true)).toEqual(known('team'));
    expect(await secrets.lookup('r.io', { repository: 'team/other' })).toEqual(known('team'));
  });
});

describe('the way to the API server', () => {
  it('is a token in a file that is replaced', async () => {
    const { root, api, open } = await world({ user: { tokenFile: 'token' } });
    const file = path.join(root, 'token');
    writeFileSync(file, 'good\n');
    api.put('one/a', { 'r.io': auth('a') });
    const secrets = open();
    await untilKnown(secrets, 'a');
    await until(() => api.watchers === 2);
    api.users = new Set(['better']);
    writeFileSync(file, 'better\n');
    api.put('one/a', { 'r.io': auth('b') });
    api.endWatches('break');
    await untilKnown(secrets, 'b');
    await until(() => api.requests.some(({ user, status }) => user === 'better' && status === 200));
  });

  it.each([
    ['files', { 'client-certificate': nodeCertificate.certFile, 'client-key': nodeCertificate.keyFile }],
    [
      'the text',
      {
        'client-certificate-data': Buffer.from(nodeCertificate.pems.cert).toString('base64'),
        'client-key-data': Buffer.from(nodeCertificate.pems.key).toString('base64'),
      },
    ],
  ])('is a client certificate in %s', async (_name, user) => {
    const { api, open } = await world({ user });
    api.users = new Set(['node']);
    api.put('one/a', { 'r.io': auth('a') });
    await untilKnown(open(), 'a');
  });

  it('is a program whose login expires', async () => {
    const { root, api, open, wait } = await world({
      user: {
        exec: {
          apiVersion: 'client.authentication.k8s.io/v1',
          command: './login',
          args: ['now'],
          env: [{ name: 'WHO', value: 'me' }],
          provideClusterInfo: true,
          interactiveMode: 'Never',
        },
      },
    });
    const answer = (token: string, expirationTimestamp: string) => {
      const status = { token, expirationTimestamp };
      writeFileSync(
        path.join(root, 'answer'),
        JSON.stringify({ apiVersion: 'client.authentication.k8s.io/v1', kind: 'ExecCredential', status }),
      );
    };
    writeFileSync(
      path.join(root, 'login'),
      `#!/bin/sh\n[ "$WHO $*" = "me now" ] || exit 3\necho "$KUBERNETES_EXEC_INFO" >> ${root}/info\ncat ${root}/answer\n`,
      { mode: 0o755 },
    );
    answer('good', '2024-01-01T01:00:00Z');
    api.put('one/a', { 'r.io': auth('a') });
    const secrets = open();
    await untilKnown(secrets, 'a');
    const info = JSON.parse(readFileSync(path.join(root, 'info'), 'utf8').split('\n')[0] ?? '') as unknown;
    expect(info).toMatchObject({
      kind: 'ExecCredential',
      spec: { interactive: false, cluster: { server: api.url } },
    });
    await until(() => api.watchers === 2);
    const runs = () => readFileSync(path.join(root, 'info'), 'utf8').trim().split('\n').length;
    const before = runs();
    api.endWatches();
    await until(() => api.watchers === 2);
    expect(runs()).toBe(before);
    answer('next', '2024-01-01T02:00:00Z');
    api.users = new Set(['next']);
    wait(3_600_000);
    api.endWatches();
    await until(() => api.requests.some(({ user, status }) => user === 'next' && status === 200));
  });

  it('is made anew when a login is refused', async () => {
    const { root, api, open } = await world({
      user: { exec: { apiVersion: 'client.authentication.k8s.io/v1', command: './login' } },
    });
    writeFileSync(path.join(root, 'login'), `#!/bin/sh\ncat ${root}/answer\n`, { mode: 0o755 });
    const answer = (token: string) =>
      writeFileSync(
        path.join(root, 'answer'),
        JSON.stringify({
          apiVersion: 'client.authentication.k8s.io/v1',
          kind: 'ExecCredential',
          status: { token },
        }),
      );
    answer('stale');
    api.put('one/a', { 'r.io': auth('a') });
    const secrets = open();
    await until(() => api.requests.some(({ status }) => status === 401));
    answer('good');
    await untilKnown(secrets, 'a');
  });

  it('is told of without what is secret where it leads nowhere', async () => {
    const { api, open, log, configure } = await world({ user: { token: 'top-secret' } });
    const secrets = open();
    await until(() => log().includes('the api server answered 401'));
    api.fault = (_request, response) => (response.writeHead(403).end('top-secret'), true);
    await until(() => log().includes('the user of the kubeconfig needs the rights to list and watch secrets'));
    api.fault = (_request, response) => (response.end('top-secret'), true);
    await until(() => log().includes('the api server answered with something that is not valid'));
    configure({ exec: { apiVersion: 'client.authentication.k8s.io/v1', command: '/nowhere/login' } });
    await until(() => log().includes('login program /nowhere/login of the kubeconfig is not installed'));
    expect(log()).not.toContain('top-secret');
    expect(await secrets.lookup('r.io')).toBeUndefined();
  });

  it('checks the certificate of the server', async () => {
    const strict = await world({ cluster: { 'certificate-authority': undefined } });
    strict.open();
    await until(() => strict.log().includes('see certificate-authority of the kubeconfig'));
    expect(strict.api.requests).toEqual([]);
    const lax = await world({ cluster: { 'certificate-authority': undefined, 'insecure-skip-tls-verify': true } });
    lax.api.put('one/a', { 'r.io': auth('a') });
    await untilKnown(lax.open(), 'a');
    const named = await world({ cluster: { 'tls-server-name': 'elsewhere' } });
    named.open();
    await until(() => named.log().includes('its certificate is for another host'));
  });
});

describe('readKubeconfig', () => {
  const read = async (text: string) => {
    const file = path.join(tempDir(), 'kubeconfig');
    writeFileSync(file, text);
    return await readKubeconfig(file).catch((error: Error) => error.message.replace(file, 'FILE'));
  };
  const config = (cluster: string, user: string) => `
current-context: main
contexts: [{ name: main, context: { cluster: c, user: u } }]
clusters: [{ name: c, cluster: ${cluster} }]
users: [{ name: u, user: ${user} }]
`;

  it('takes YAML', async () => {
    expect(await read(config('{ server: "https://k:6443" }', '{ token: t }'))).toMatchObject({
      token: 't',
      skipVerify: false,
    });
    expect(await read(config('{ server: "http://127.0.0.1:8080" }', '{}'))).toMatchObject({ token: undefined });
  });

  it.each<[string, string, RegExp]>([
    ['nothing', '', /^kubeconfig FILE: the document: /],
    ['no YAML', 'a: [top-secret', /^kubeconfig FILE: not valid yaml at line 1$/],
    ['no context', 'current-context: nowhere', /^kubeconfig FILE: there is no context "nowhere"$/],
    ['plain HTTP', config('{ server: "http://k:8080" }', '{}'), /the server is not an https URL$/],
    ['no URL', config('{ server: "k" }', '{}'), /the server is not an https URL$/],
    [
      'half a certificate',
      config('{ server: "https://k" }', '{ client-key-data: dG9wLXNlY3JldA== }'),
      /belong together$/,
    ],
    [
      'a missing file',
      config('{ server: "https://k" }', '{ tokenFile: none }'),
      /tokenFile .*none cannot be read \(ENOENT\)$/,
    ],
    ['auth-provider', config('{ server: "https://k" }', '{ auth-provider: { name: gcp } }'), /auth-provider/],
    [
      'an old login program',
      config('{ server: "https://k" }', '{ exec: { apiVersion: client.authentication.k8s.io/v1alpha1, command: c } }'),
      /user u: exec\.apiVersion: /,
    ],
    [
      'a login program for people',
      config(
        '{ server: "https://k" }',
        '{ exec: { apiVersion: client.authentication.k8s.io/v1, command: c, interactiveMode: Always } }',
      ),
      /wants to ask a person$/,
    ],
    ['a token that is none', config('{ server: "https://k" }', '{ token: [top-secret] }'), /user u: token: /],
  ])('refuses %s', async (_name, text, message) => {
    const said = await read(text);
    expect(said).toMatch(message);
    expect(said).not.toContain('top-secret');
  });

  it('names a file that is not there', async () => {
    await expect(readKubeconfig('/nowhere/kubeconfig')).rejects.toMatchObject({
      code: 'CREDENTIALS_INVALID',
      message: 'kubeconfig /nowhere/kubeconfig: cannot be read (ENOENT)',
    });
  });
});
