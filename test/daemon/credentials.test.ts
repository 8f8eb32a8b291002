// The daemon's credentials put together: a private repository on a real registry, reached by what each place knows.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, describe, expect, it, onTestFinished } from 'vitest';
import { readEnvironment } from '../../src/config/environment.ts';
import { configSchema } from '../../src/config/schema.ts';
import { openCredentials } from '../../src/daemon/credentials.ts';
import { Origins } from '../../src/daemon/origins.ts';
import { createLog, silentLog } from '../../src/observe/log.ts';
import { parseReference } from '../../src/oci/reference.ts';
import type { Credentials } from '../../src/registry/auth/credentials.ts';
import { RemoteRegistry } from '../../src/registry/remote-registry.ts';
import { openState } from '../../src/state/state.ts';
import { TestAuthority } from '../support/certificates.ts';
import { startDockerRegistry } from '../support/docker-registry.ts';
import { KubeApi } from '../support/kube-api.ts';
import { pushImage } from '../support/registry-content.ts';
import { keptTempDir, tempDir } from '../support/tmp.ts';
import { fixed } from '../support/token-world.ts';
import { issuer, service, startTokenServer } from '../support/token-server.ts';

const dir = keptTempDir();
const authority = new TestAuthority(dir.path);
const certificate = authority.issue('server');
afterAll(() => dir[Symbol.dispose]());

const person = (username: string, password = `${username}-secret`): Credentials => ({
  kind: 'password',
  username,
  password,
});

/** A registry whose repositories are `admin`'s to write and for each to read who is named like it. */
async function privateRegistry() {
  const tokens = await startTokenServer((user, resource) => {
    if (user === 'admin') return ['pull', 'push'];
    return user !== undefined && resource.startsWith(`repository:${user}/`) ? ['pull'] : [];
  });
  const { certificateFile } = tokens;
  const registry = await startDockerRegistry({ token: { realm: tokens.url, service, issuer, certificateFile } });
  onTestFinished(() => registry.close());
  tokens.passwords.set('admin', 'admin-secret');
  const push = new RemoteRegistry({ host: registry.host, credentials: fixed(person('admin')) });
  onTestFinished(() => push.close());
  return { tokens, registry, push };
}

async function open(more: Readonly<Record<string, unknown>>, env: Readonly<Record<string, string>> = {}) {
  const root = tempDir();
  const state = openState(root);
  const logFile = path.join(root, 'log');
  const environment = readEnvironment({ HOME: path.join(root, 'home'), PATH: process.env['PATH'], ...env });
  const credentials = await openCredentials(configSchema.parse({ credentials: more }).credentials, {
    environment,
    uid: 0,
    secrets: state.secrets,
    root,
    runDir: path.join(root, 'run'),
    log: createLog({ to: logFile }),
  });
  const origins = new Origins({ environment, log: silentLog(), credentials: credentials.source });
  onTestFinished(async () => {
    await origins.close();
    await credentials.close();
    await credentials.close();
    state.close();
  });
  const read = async (image: string) => {
    const { registry, repository } = await origins.open(parseReference(image));
    return await registry.resolveTag(repository, 'v1');
  };
  return { ...credentials, read, root, log: () => readFileSync(logFile, { encoding: 'utf8', flag: 'a+' }) };
}

function writeDocker(home: string, host: string, username: string): void {
  mkdirSync(path.join(home, '.docker'), { recursive: true });
  const auth = Buffer.from(`${username}:${username}-secret`).toString('base64');
  writeFileSync(path.join(home, '.docker', 'config.json'), JSON.stringify({ auths: { [host]: { auth } } }));
}

/** A provider that answers what the file `answer` says. */
function kubeletFiles(host: string) {
  const bin = tempDir();
  const config = path.join(bin, 'config.yaml');
  const apiVersion = 'credentialprovider.kubelet.k8s.io/v1';
  writeFileSync(
    config,
    `{ apiVersion: kubelet.config.k8s.io/v1, kind: CredentialProviderConfig, providers: [{ name: cloud,
       matchImages: ["${host}"], defaultCacheDuration: 12h, apiVersion: ${apiVersion} }] }`,
  );
  writeFileSync(path.join(bin, 'cloud'), `#!/bin/sh\ncat ${bin}/answer\n`, { mode: 0o755 });
  const answer = (username: string, password: string) =>
    writeFileSync(
      path.join(bin, 'answer'),
      JSON.stringify({
        kind: 'CredentialProviderResponse',
        apiVersion,
        cacheKeyType: 'Global',
        auth: { [host]: { username, password } },
      }),
    );
  return { kubelet: { config, bin_dir: bin }, answer };
}

async function kubeCluster() {
  const api = await new KubeApi(certificate, authority.caFile).start();
  api.users = new Set(['node']);
  const kubeconfig = path.join(tempDir(), 'kubeconfig');
  writeFileSync(
    kubeconfig,
    `{ current-context: x, contexts: [{ name: x, context: { cluster: c, user: u } }], users: [{ name: u, user: { token: node } }],
       clusters: [{ name: c, cluster: { server: "${api.url}", certificate-authority: "${authority.caFile}" } }] }`,
  );
  return { api, kubeconfig: { path: kubeconfig } };
}

describe('the credentials of the daemon', () => {
  it('open private repositories, each with what is known for it', async () => {
    const { tokens, registry, push } = await privateRegistry();
    const { kubelet, answer } = kubeletFiles(`${registry.host}/cloud`);
    const { api, kubeconfig } = await kubeCluster();
    answer('cloud', 'cloud-secret');
    const auth = Buffer.from('kube:kube-secret').toString('base64');
    api.put('x/y', { [`${registry.host}/kube`]: { auth } });
    const all = await open({ kubelet, kubeconfig });
    writeDocker(path.join(all.root, 'home'), registry.host, 'docker');
    const image = (name: string) => `${registry.host}/${name}/app:v1`;
    await all.remember(image('pulled'), person('pulled'));
    for (const name of ['pulled', 'cloud', 'kube', 'docker']) {
      tokens.passwords.set(name, `${name}-secret`);
      const { manifest } = await pushImage(push, `${name}/app`, 'v1');
      expect((await all.read(image(name))).digest).toBe(manifest.descriptor.digest);
    }
    expect(tokens.issued.map(({ user }) => user)).toEqual(
      expect.arrayContaining(['pulled', 'cloud', 'kube', 'docker']),
    );
    expect(all.log()).toBe('');
  });

  it('are renewed when the registry refuses what expired, whoever said it', async () => {
    const { tokens, registry, push } = await privateRegistry();
    const { kubelet, answer } = kubeletFiles(registry.host);
    const { manifest } = await pushImage(push, 'cloud/app', 'v1');
    const image = `${registry.host}/cloud/app:v1`;
    const all = await open({ docker: false, kubelet });
    tokens.passwords.set('cloud', 'first');
    await all.remember(image, person('cloud', 'first'));
    answer('cloud', 'second');
    expect((await all.read(image)).digest).toBe(manifest.descriptor.digest);
    // What the image was pulled with ends: the provider is asked.
    tokens.passwords.set('cloud', 'second');
    tokens.lifetimeSeconds = 1;
    const again = async () => {
      const fresh = new RemoteRegistry({ host: registry.host, credentials: all.source });
      onTestFinished(() => fresh.close());
      return (await fresh.resolveTag('cloud/app', 'v1')).digest;
    };
    expect(await again()).toBe(manifest.descriptor.digest);
    expect(await all.source.lookup(registry.host, { repository: 'cloud/app' })).toEqual(person('cloud', 'second'));
    // What the provider said ends before its time: it is asked again.
    tokens.passwords.set('cloud', 'third');
    answer('cloud', 'third');
    expect(await again()).toBe(manifest.descriptor.digest);
    expect(all.log()).not.toMatch(/first|second|third/);
  });

  it('leave docker out where that is said, and read its file again when asked', async () => {
    const known = await open({});
    const home = path.join(known.root, 'home');
    expect(await known.source.lookup('r.io')).toBeUndefined();
    writeDocker(home, 'r.io', 'docker');
    known.reload();
    expect(await known.source.lookup('r.io')).toEqual(person('docker'));
    const none = await open({ docker: false }, { HOME: home });
    expect(await none.source.lookup('r.io')).toBeUndefined();
    none.reload();
    expect(none.serveCri).toBeUndefined();
  });

  it('are had from the other places while one is broken, which is told once', async () => {
    const all = await open({
      kubelet: { config: '/nowhere/config.yaml', bin_dir: '/nowhere' },
      kubeconfig: { path: '/nowhere/kubeconfig' },
    });
    writeDocker(path.join(all.root, 'home'), 'r.io', 'docker');
    for (let i = 0; i < 3; i += 1)
      expect(await all.source.lookup('r.io', { repository: 'a' })).toEqual(person('docker'));
    expect(all.log().match(/configuration \/nowhere\/config\.yaml: does not exist/g)).toHaveLength(1);
    // Of each of the two types of secrets.
    expect(all.log().match(/kubeconfig \/nowhere\/kubeconfig: cannot be read/g)).toHaveLength(2);
    const half = await open({ kubelet: { config: '/nowhere/config.yaml' } });
    expect(half.log()).toContain('credentials.kubelet.bin_dir is missing');
  });

  it('are not opened with a key that cannot be used', async () => {
    await expect(open({ key_file: '/nowhere/key' })).rejects.toMatchObject({ code: 'ERR_CONFIG_KEY' });
  });

  it('remember for references to registries only', async () => {
    const all = await open({});
    await expect(all.remember('UPPER', person('a'))).rejects.toMatchObject({ code: 'ERR_OCI_REFERENCE' });
    await expect(all.remember('oci:/x', person('a'))).rejects.toMatchObject({ code: 'CREDENTIALS_INVALID' });
    await all.remember('debian', person('a'));
    expect(await all.source.lookup('docker.io', { repository: 'library/debian' })).toEqual(person('a'));
  });
});
