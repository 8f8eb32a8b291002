// The image endpoint in front of a real containerd, and what it learns from the pulls it hands on.
import { randomBytes } from 'node:crypto';
import { readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { create, toBinary } from '@bufbuild/protobuf';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { status } from '@grpc/grpc-js';
import { hash } from 'bcryptjs';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { readEnvironment } from '../../src/config/environment.ts';
import { configSchema } from '../../src/config/schema.ts';
import { openCredentials } from '../../src/daemon/credentials.ts';
import { Origins } from '../../src/daemon/origins.ts';
import { createLog, silentLog } from '../../src/observe/log.ts';
import { parseReference } from '../../src/oci/reference.ts';
import { RemoteRegistry } from '../../src/registry/remote-registry.ts';
import * as cri from '../../src/snapshotter/gen/cri/api_pb.ts';
import { openState } from '../../src/state/state.ts';
import { type CriContainerd, startCriContainerd } from '../support/cri-containerd.ts';
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts';
import { GrpcClient } from '../support/grpc-call.ts';
import { buildImage, pushImage } from '../support/image-builder.ts';
import { makeFixture } from '../support/fixtures.ts';
import { canMount } from '../support/peel-node.ts';
import { run } from '../support/run.ts';
import { keptTempDir, tempDir } from '../support/tmp.ts';
import { fixed, password } from '../support/token-world.ts';

const kept = keptTempDir();
let registry: DockerRegistry;
let containerd: CriContainerd;
let image = '';
const auth = { username: 'ann', password: 'se:cret' };

describe.skipIf(!canMount)('the image endpoint', () => {
  beforeAll(async () => {
    registry = await startDockerRegistry({ htpasswd: `ann:${await hash('se:cret', 4)}\n` });
    const tars = await makeFixture('wide', path.join(kept.path, 'tars'), '10');
    const built = await buildImage(
      path.join(kept.path, 'image'),
      tars.map((tar) => ({ tar, compression: 'gzip' as const })),
    );
    const push = new RemoteRegistry({ host: registry.host, credentials: fixed(password) });
    await pushImage(push, 'team/app', 'v1', built);
    await push.close();
    image = `${registry.host}/team/app:v1`;
    containerd = await startCriContainerd();
  });
  afterAll(async () => {
    await containerd?.close();
    await registry?.close();
    kept[Symbol.dispose]();
  });

  async function open(root: string, more: { keyFile?: string } = {}) {
    const logFile = path.join(root, 'log');
    const state = openState(root);
    const config = configSchema.parse({
      credentials: {
        docker: false,
        key_file: more.keyFile,
        cri: { enabled: true, upstream: containerd.socket },
      },
    });
    const credentials = await openCredentials(config.credentials, {
      environment: readEnvironment({}),
      uid: 0,
      secrets: state.secrets,
      root,
      runDir: path.join(root, 'run'),
      log: createLog({ level: 'debug', to: logFile }),
    });
    const close = async () => {
      await credentials.close();
      state.close();
    };
    onTestFinished(close);
    return { ...credentials, state, close, socket: path.join(root, 'run', 'image.sock') };
  }

  const service = '/runtime.v1.ImageService';
  const list = (client: GrpcClient) =>
    client.call(`${service}/ListImages`, cri.ListImagesRequestSchema, cri.ListImagesResponseSchema, {});
  const pull = (client: GrpcClient, request: MessageInitShape<typeof cri.PullImageRequestSchema>, of = service) =>
    client.call(`${of}/PullImage`, cri.PullImageRequestSchema, cri.PullImageResponseSchema, request);

  it('hands calls on and remembers what an image was pulled with, for its repository alone', async () => {
    const root = tempDir();
    const opened = await open(root);
    await opened.serveCri?.();
    expect(statSync(opened.socket).mode & 0o777).toBe(0o600);
    const client = new GrpcClient(opened.socket);
    const version = await client.call(
      '/runtime.v1.RuntimeService/Version',
      cri.VersionRequestSchema,
      cri.VersionResponseSchema,
      {},
    );
    expect(version.runtimeName).toBe('containerd');
    await expect(pull(client, { image: { image } })).rejects.toMatchObject({
      details: expect.stringMatching(/authorization failed|401/i),
    });
    expect(await opened.source.lookup(registry.host, { repository: 'team/app' })).toBeUndefined();
    expect((await pull(client, { image: { image }, auth })).imageRef).toMatch(/sha256:/);
    expect((await list(client)).images.flatMap(({ repoTags }) => repoTags)).toEqual([image]);
    expect(await opened.source.lookup(registry.host, { repository: 'team/app' })).toEqual(password);
    expect(await opened.source.lookup(registry.host, { repository: 'team/other' })).toBeUndefined();
    expect(await opened.source.lookup('docker.io', { repository: 'team/app' })).toBeUndefined();
    // The daemon reads the private image with it.
    const origins = new Origins({
      environment: readEnvironment({}),
      log: silentLog(),
      credentials: opened.source,
    });
    onTestFinished(() => origins.close());
    const { registry: own, repository } = await origins.open(parseReference(image));
    expect((await own.resolveTag(repository, 'v1')).size).toBeGreaterThan(0);
    const removed = await client.raw(
      `${service}/RemoveImage`,
      toBinary(cri.RemoveImageRequestSchema, create(cri.RemoveImageRequestSchema, { image: { image } })),
    );
    expect(removed.bytes).toHaveLength(0);
    expect(readFileSync(path.join(root, 'log'), 'utf8')).not.toMatch(/se:cret|c2U6Y3JldA|YW5uOnNlOmNyZXQ/);
  });

  it('takes the older version of the interface, and each form of credentials', async () => {
    const opened = await open(tempDir());
    await opened.serveCri?.();
    const client = new GrpcClient(opened.socket);
    const found = async (repository: string) => await opened.source.lookup(registry.host, { repository });
    const ask = async (repository: string, credentials: MessageInitShape<typeof cri.AuthConfigSchema>, of = service) =>
      await pull(client, { image: { image: `${registry.host}/${repository}` }, auth: credentials }, of).catch(
        (error: { code: number }) => error,
      );
    await ask('old', auth, '/runtime.v1alpha2.ImageService');
    expect(await found('old')).toEqual(password);
    await ask('basic', { auth: Buffer.from('ann:se:cret').toString('base64') });
    expect(await found('basic')).toEqual(password);
    await ask('identity', { identityToken: 'idtoken', username: 'ann' });
    expect(await found('identity')).toEqual({ kind: 'refresh-token', token: 'idtoken', username: 'ann' });
    await ask('bearer', { registryToken: 'regtoken' });
    expect(await found('bearer')).toEqual({ kind: 'access-token', token: 'regtoken' });
    await ask('named', { ...auth, serverAddress: `http://${registry.host}/v2/` });
    expect(await found('named')).toEqual(password);
    await ask('elsewhere', { ...auth, serverAddress: 'https://evil.example' });
    expect(await found('elsewhere')).toBeUndefined();
    await ask('damaged', { auth: '%%%' });
    expect(await found('damaged')).toBeUndefined();
    for (const garbage of ['', 'A B', 'oci:/etc', `${registry.host}/UPPER`, 'x'.repeat(5_000)])
      await expect(pull(client, { image: { image: garbage }, auth })).rejects.toMatchObject({
        code: expect.any(Number),
      });
    expect((await list(client)).images).toEqual([]);
  });

  it('is understood by a client in Go, to which it is not the whole of containerd', async () => {
    const opened = await open(tempDir());
    await opened.serveCri?.();
    const { err } = await run('ctr', ['--address', opened.socket, 'version']);
    expect(err).toContain("peel's image endpoint does not serve /containerd.services.version.v1.Version/Version");
  });

  it('says that containerd is away, and reaches it again by itself', async () => {
    const opened = await open(tempDir());
    await opened.serveCri?.();
    const client = new GrpcClient(opened.socket);
    await list(client);
    await containerd.stop();
    await expect(list(client)).rejects.toMatchObject({
      code: status.UNAVAILABLE,
      details: expect.stringContaining(`peel cannot reach containerd at ${containerd.socket}`),
    });
    await expect(pull(client, { image: { image }, auth })).rejects.toMatchObject({ code: status.UNAVAILABLE });
    await containerd.start();
    expect((await list(client)).images).toEqual([]);
  });

  it('keeps what it remembers over a restart only with a key, in a form that says nothing', async () => {
    const root = tempDir();
    const keyFile = path.join(tempDir(), 'key');
    writeFileSync(keyFile, randomBytes(32).toString('hex'), { mode: 0o400 });
    const pullWith = async (more: { keyFile?: string }) => {
      const opened = await open(root, more);
      await opened.serveCri?.();
      await pull(new GrpcClient(opened.socket), { image: { image }, auth });
      await opened.close();
      return readdirSync(root)
        .filter((name) => name.startsWith('peel.db'))
        .map((name) => readFileSync(path.join(root, name)));
    };
    const found = async (more: { keyFile?: string }) => {
      const opened = await open(root, more);
      const credentials = await opened.source.lookup(registry.host, { repository: 'team/app' });
      await opened.close();
      return credentials;
    };
    await pullWith({});
    expect(await found({})).toBeUndefined();
    expect(await found({ keyFile })).toBeUndefined();
    const files = await pullWith({ keyFile });
    expect(files.some((bytes) => bytes.includes(`${registry.host}/team/app`))).toBe(true);
    for (const secret of ['se:cret', 'ann', '"kind"', Buffer.from('ann:se:cret').toString('base64')])
      expect(files.some((bytes) => bytes.includes(secret))).toBe(false);
    expect(await found({ keyFile })).toEqual(password);
    expect(await found({})).toBeUndefined();
  });
});
