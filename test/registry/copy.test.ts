import path from 'node:path';
import { Readable } from 'node:stream';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { Descriptor } from '../../src/oci/descriptor.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { parsePlatform } from '../../src/oci/platform.ts';
import { copyImage } from '../../src/registry/copy.ts';
import { DirRegistry } from '../../src/registry/dir-registry.ts';
import { LayoutArchive } from '../../src/registry/layout-archive.ts';
import { LayoutRegistry } from '../../src/registry/layout-registry.ts';
import { RemoteRegistry } from '../../src/registry/remote-registry.ts';
import { serveRegistry } from '../../src/registry/serve-registry.ts';
import type { CallOptions, Registry } from '../../src/registry/registry.ts';
import { RegistryFront } from '../support/registry-front.ts';
import { type Content, content, listAll, manifestOf, push, pushImage, readAll } from '../support/registry-content.ts';
import { tempDir } from '../support/tmp.ts';

function store(): DirRegistry {
  return new DirRegistry(tempDir());
}

/** A store behind a server, a front that counts, and a client of both. */
async function served(registry: Registry = store()) {
  const server = await serveRegistry(registry);
  const front = await RegistryFront.start(server.host);
  const remote = new RemoteRegistry({
    host: front.host,
    backoff: { attempts: 3, baseMs: 1, maxMs: 5, maxRetryAfterMs: 5 },
  });
  onTestFinished(async () => {
    await remote.close();
    await front.close();
    await server.close();
  });
  return { registry, front, remote };
}

function indexOf(manifests: readonly Descriptor[], changes: Readonly<Record<string, unknown>> = {}): Content {
  const document = { schemaVersion: 2, mediaType: mediaTypes.imageIndex, manifests, ...changes };
  return content(JSON.stringify(document), mediaTypes.imageIndex);
}

/** Two platforms that share a layer, and a signature of one of them. */
async function pushIndex(registry: Registry, repository: string, tag: string) {
  const shared = content(300_000, mediaTypes.layerGzip);
  await push(registry, repository, shared);
  const children = [];
  for (const architecture of ['amd64', 'arm64']) {
    const config = content(JSON.stringify({ os: 'linux', architecture }), mediaTypes.imageConfig);
    const own = content(3_000, mediaTypes.layerGzip);
    await push(registry, repository, config);
    await push(registry, repository, own);
    const manifest = manifestOf(config.descriptor, [shared.descriptor, own.descriptor]);
    await registry.pushManifest(repository, undefined, manifest.bytes, manifest.descriptor.mediaType);
    children.push({ ...manifest.descriptor, platform: { os: 'linux', architecture } });
  }
  const index = indexOf(children);
  await registry.pushManifest(repository, tag, index.bytes, mediaTypes.imageIndex);
  const [amd64, arm64] = children as [Descriptor, Descriptor];
  const { manifest: signature } = await pushImage(registry, repository, undefined, {
    subject: { mediaType: amd64.mediaType, digest: amd64.digest, size: amd64.size },
    artifactType: 'a/signature',
  });
  const { manifest: countersignature } = await pushImage(registry, repository, undefined, {
    subject: signature.descriptor,
    artifactType: 'a/countersignature',
  });
  return { shared, index, amd64, arm64, signature, countersignature };
}

describe('copyImage', () => {
  it('copies every platform byte by byte between all kinds of registries', async () => {
    const { registry: first, remote } = await served();
    const { index, shared, arm64 } = await pushIndex(first, 'a/b', 'v1');
    const dir = tempDir();
    const layout = new LayoutRegistry(path.join(dir, 'layout'));
    const archive = await LayoutArchive.create(path.join(dir, 'a.tar'));
    const again = (await served()).remote;
    const hops = [remote, layout, archive, again, store()];
    for (const [at, from] of hops.entries()) {
      const to = hops[at + 1];
      if (to === undefined) break;
      const report = await copyImage(
        { registry: from, repository: 'a/b', reference: 'v1' },
        { registry: to, repository: 'a/b', tag: 'v1' },
      );
      expect(report).toMatchObject({
        digest: index.descriptor.digest,
        manifests: 3,
        blobs: { copied: 5, mounted: 0, existing: 0 },
      });
      expect((await to.getTag('a/b', 'v1')).bytes).toEqual(index.bytes);
      expect(await to.resolveManifest('a/b', arm64.digest)).toMatchObject({ mediaType: arm64.mediaType });
      expect((await readAll(await to.getBlob('a/b', shared.descriptor.digest))).equals(shared.bytes)).toBe(true);
      if (to instanceof LayoutArchive) await to.close();
      if (to instanceof LayoutRegistry || to instanceof LayoutArchive)
        expect(await to.resolveDefault()).toEqual(index.descriptor);
    }
  });

  it('copies one platform of an index, under its own digest', async () => {
    const [from, to] = [store(), store()];
    const { arm64 } = await pushIndex(from, 'a', 'v1');
    const source = { registry: from, repository: 'a', reference: 'v1' };
    const platform = parsePlatform('linux/arm64');
    const report = await copyImage(source, { registry: to, repository: 'b', tag: 'x' }, { platform });
    expect(report).toMatchObject({ digest: arm64.digest, manifests: 1, blobs: { copied: 3 } });
    expect(await to.resolveTag('b', 'x')).toMatchObject({ digest: arm64.digest });
    const none = copyImage(
      source,
      { registry: to, repository: 'c', tag: 'x' },
      { platform: parsePlatform('linux/s390x') },
    );
    await expect(none).rejects.toMatchObject({
      code: 'MANIFEST_UNKNOWN',
      message: expect.stringContaining('linux/amd64, linux/arm64') as string,
    });
  });

  it('sends one blob once, and none that the target has', async () => {
    const { front, remote, registry } = await served();
    const from = store();
    const { index, shared } = await pushIndex(from, 'a', 'v1');
    const source = { registry: from, repository: 'a', reference: 'v1' };
    await push(registry, 'b', shared);
    const first = await copyImage(source, { registry: remote, repository: 'b', tag: 'v1' });
    expect(first).toMatchObject({ blobs: { copied: 4, existing: 1 } });
    front.forget();
    const second = await copyImage(
      { ...source, reference: index.descriptor.digest },
      { registry: remote, repository: 'b' },
    );
    expect(second).toMatchObject({ blobs: { copied: 0, existing: 5 }, bytes: 0 });
    expect(front.requests.filter(({ method }) => method === 'POST')).toEqual([]);
  });

  it('mounts blobs from another repository of the same registry', async () => {
    const { registry, front, remote } = await served();
    const { index } = await pushIndex(registry, 'a', 'v1');
    front.forget();
    const report = await copyImage(
      { registry: remote, repository: 'a', reference: 'v1' },
      { registry: remote, repository: 'b', tag: 'v2' },
    );
    expect(report).toMatchObject({ blobs: { copied: 0, mounted: 5 }, bytes: 0 });
    expect(front.requests.filter(({ method, path: url }) => method === 'GET' && url.includes('/blobs/'))).toEqual([]);
    expect(await registry.resolveTag('b', 'v2')).toEqual(index.descriptor);
  });

  it.each([
    [404, JSON.stringify({ errors: [{ code: 'BLOB_UNKNOWN' }] })],
    [400, JSON.stringify({ errors: [{ code: 'NAME_INVALID' }] })],
    [403, ''],
    [500, 'no idea'],
    [202, ''],
  ])('sends blobs that the registry does not mount, answering %d %s', async (status, body) => {
    const { registry, front, remote } = await served();
    await pushIndex(registry, 'a', 'v1');
    front.interfere(
      (request) => request.url?.includes('mount=') === true,
      (_request, response) => void response.writeHead(status).end(body),
    );
    const report = await copyImage(
      { registry: remote, repository: 'a', reference: 'v1' },
      { registry: remote, repository: 'b', tag: 'v2' },
    );
    expect(report).toMatchObject({ blobs: { copied: 5, mounted: 0 } });
  });

  it('copies what refers to the manifests, and what refers to that, only when asked to', async () => {
    const { registry: from, remote } = await served();
    const { amd64, signature, countersignature } = await pushIndex(from, 'a', 'v1');
    const source = { registry: remote, repository: 'a', reference: 'v1' };
    const plain = store();
    await copyImage(source, { registry: plain, repository: 'a', tag: 'v1' });
    expect(await listAll(plain.referrers('a', amd64.digest))).toEqual([]);
    for (const to of [store(), new LayoutRegistry(path.join(tempDir(), 'l'))]) {
      const report = await copyImage(source, { registry: to, repository: 'a', tag: 'v1' }, { referrers: true });
      expect(report.manifests).toBe(5);
      expect(await listAll(to.referrers('a', amd64.digest))).toMatchObject([{ digest: signature.descriptor.digest }]);
      expect(await listAll(to.referrers('a', signature.descriptor.digest))).toMatchObject([
        { digest: countersignature.descriptor.digest, artifactType: 'a/countersignature' },
      ]);
    }
  });

  it('copies referrers that form a circle with their subject once', async () => {
    const [from, to] = [store(), store()];
    const { manifest } = await pushImage(from, 'a', 'v1');
    const circle = indexOf([manifest.descriptor], { subject: manifest.descriptor, artifactType: 'a/b' });
    await from.pushManifest('a', undefined, circle.bytes, mediaTypes.imageIndex);
    const source = { registry: from, repository: 'a', reference: 'v1' };
    const report = await copyImage(source, { registry: to, repository: 'a', tag: 'v1' }, { referrers: true });
    expect(report.manifests).toBe(2);
    expect(await listAll(to.referrers('a', manifest.descriptor.digest))).toHaveLength(1);
  });

  it('names the referrers that it has to leave out', async () => {
    const [from, to] = [store(), store()];
    const { manifest } = await pushImage(from, 'a', 'v1');
    const [gone, odd] = [content('gone').descriptor, content('odd').descriptor];
    const listed = Object.assign(Object.create(from) as DirRegistry, {
      getTag: from.getTag.bind(from),
      getManifest: from.getManifest.bind(from),
      getBlob: from.getBlob.bind(from),
      async *referrers() {
        yield { ...gone, mediaType: mediaTypes.imageManifest };
        yield { ...odd, mediaType: 'application/x.odd' };
      },
    });
    const report = await copyImage(
      { registry: listed, repository: 'a', reference: 'v1' },
      { registry: to, repository: 'a', tag: 'v1' },
      { referrers: true },
    );
    expect(report.skipped).toEqual([odd.digest, gone.digest]);
    expect(await to.resolveTag('a', 'v1')).toEqual(manifest.descriptor);
  });

  it('refuses referrers without end, and indexes nested too deep', async () => {
    const [from, to] = [store(), store()];
    const { manifest } = await pushImage(from, 'a', 'v1');
    const endless = Object.assign(Object.create(from) as DirRegistry, {
      getTag: from.getTag.bind(from),
      async *referrers() {
        for (let n = 0; ; n += 1) yield { ...content(String(n)).descriptor, mediaType: 'application/x.odd' };
      },
    });
    const target = { registry: to, repository: 'a', tag: 'v1' };
    await expect(
      copyImage({ registry: endless, repository: 'a', reference: 'v1' }, target, { referrers: true }),
    ).rejects.toMatchObject({ code: 'TOO_LARGE' });
    let nested = manifest;
    for (let depth = 0; depth < 10; depth += 1) {
      nested = indexOf([nested.descriptor]);
      await from.pushManifest('a', 'deep', nested.bytes, mediaTypes.imageIndex);
    }
    await expect(copyImage({ registry: from, repository: 'a', reference: 'deep' }, target)).rejects.toMatchObject({
      code: 'MANIFEST_INVALID',
    });
    expect(await listAll(to.repositories())).toEqual([]);
  });

  it('leaves foreign layers where they are', async () => {
    const [from, to] = [store(), store()];
    const foreign = {
      ...content(100).descriptor,
      mediaType: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
      urls: ['https://example.test/layer'],
    };
    const config = content('{}', mediaTypes.dockerConfig);
    await push(from, 'a', config);
    const manifest = manifestOf(config.descriptor, [foreign], { mediaType: mediaTypes.dockerManifest });
    await from.pushManifest('a', 'v1', manifest.bytes, mediaTypes.dockerManifest);
    const report = await copyImage(
      { registry: from, repository: 'a', reference: 'v1' },
      { registry: to, repository: 'a', tag: 'v1' },
    );
    expect(report).toMatchObject({ foreign: [foreign.digest], blobs: { copied: 1 } });
    expect((await to.getTag('a', 'v1')).bytes).toEqual(manifest.bytes);
  });

  it('opens the source again when the target tries again', async () => {
    const { registry, front, remote } = await served();
    const from = store();
    const { manifest, layer } = await pushImage(from, 'a', 'v1');
    let failures = 0;
    front.interfere(
      ({ method }) => method === 'PUT' && failures < 2,
      (_request, response) => {
        failures += 1;
        response.destroy();
      },
    );
    let opened = 0;
    const counting = Object.assign(Object.create(from) as DirRegistry, {
      getTag: from.getTag.bind(from),
      getBlob: (...args: Parameters<DirRegistry['getBlob']>) => {
        opened += 1;
        return from.getBlob(...args);
      },
    });
    await copyImage(
      { registry: counting, repository: 'a', reference: 'v1' },
      { registry: remote, repository: 'a', tag: 'v1' },
      { jobs: 1 },
    );
    expect(opened).toBe(4);
    expect(await registry.resolveTag('a', 'v1')).toEqual(manifest.descriptor);
    expect(await readAll(await registry.getBlob('a', layer.descriptor.digest))).toEqual(layer.bytes);
  });

  it.each(['wrong bytes', 'a failure half way'])('leaves no tag and no blob after %s', async (what) => {
    const from = store();
    const { layer } = await pushImage(from, 'a', 'v1');
    const bad = what === 'wrong bytes' ? Buffer.alloc(2_000) : layer.bytes.subarray(0, 1_000);
    const broken = Object.assign(Object.create(from) as DirRegistry, {
      getTag: from.getTag.bind(from),
      getBlob: async (...args: Parameters<DirRegistry['getBlob']>) => {
        if (args[1] !== layer.descriptor.digest) return from.getBlob(...args);
        async function* body() {
          yield bad;
          if (what !== 'wrong bytes') throw new Error('the source broke');
        }
        const stream = Readable.from(body());
        return { descriptor: layer.descriptor, body: stream, close: () => void stream.destroy() };
      },
    });
    const archive = await LayoutArchive.create(path.join(tempDir(), 'a.tar'));
    onTestFinished(() => archive.discard());
    for (const to of [store(), (await served()).remote, archive]) {
      const copy = copyImage(
        { registry: broken, repository: 'a', reference: 'v1' },
        { registry: to, repository: 'a', tag: 'v1' },
      );
      await expect(copy).rejects.toThrow();
      await expect(to.getTag('a', 'v1')).rejects.toMatchObject({ code: expect.stringMatching(/_UNKNOWN$/) as string });
      await expect(to.getBlob('a', layer.descriptor.digest)).rejects.toMatchObject({
        code: expect.stringMatching(/_UNKNOWN$/) as string,
      });
    }
  });

  it('stops when it is told to, with nothing under way', async () => {
    const from = store();
    await pushIndex(from, 'a', 'v1');
    const abort = new AbortController();
    let open = 0;
    const stalling = Object.assign(Object.create(from) as DirRegistry, {
      getTag: from.getTag.bind(from),
      getManifest: from.getManifest.bind(from),
      getBlob: async (_repository: string, digest: Descriptor['digest'], options?: CallOptions) => {
        open += 1;
        const body = new Readable({ read() {} });
        body.once('close', () => (open -= 1));
        options?.signal?.addEventListener('abort', () => body.destroy());
        setImmediate(() => abort.abort(new Error('enough')));
        return { descriptor: { mediaType: '', digest, size: 1 }, body, close: () => void body.destroy() };
      },
    });
    const to = store();
    const copy = copyImage(
      { registry: stalling, repository: 'a', reference: 'v1' },
      { registry: to, repository: 'a', tag: 'v1' },
      { signal: abort.signal },
    );
    await expect(copy).rejects.toThrow('enough');
    await new Promise((resolve) => setImmediate(resolve));
    expect(open).toBe(0);
    expect(await listAll(to.repositories())).toEqual(['a']);
    expect(await listAll(to.tags('a'))).toEqual([]);
  });
});
