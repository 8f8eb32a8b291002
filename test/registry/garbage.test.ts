import {
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Digest } from '../../src/oci/digest.ts';
import { digestHex } from '../../src/oci/digest.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { DirRegistry } from '../../src/registry/dir-registry.ts';
import { LayoutRegistry } from '../../src/registry/layout-registry.ts';
import { content, listAll, manifestOf, push, pushImage, readAll } from '../support/registry-content.ts';
import type { Content } from '../support/registry-content.ts';
import { checkNothingUnreferenced, checkStore, indexedTags } from '../support/store-check.ts';
import { tempDir } from '../support/tmp.ts';

const all = { olderThanMs: 0, untagged: true };
const nothing = { count: 0, bytes: 0 };

function makeOld(root: string): void {
  const hourAgo = Date.now() / 1000 - 3_600;
  for (const entry of readdirSync(root, { recursive: true, withFileTypes: true }))
    if (entry.isFile()) utimesSync(path.join(entry.parentPath, entry.name), hourAgo, hourAgo);
}

function poolHas(root: string, digest: Digest): boolean {
  return existsSync(path.join(root, 'blobs/sha256', digestHex(digest)));
}

async function has(registry: DirRegistry, repository: string, manifest: Content): Promise<boolean> {
  return await registry.getManifest(repository, manifest.descriptor.digest).then(
    () => true,
    () => false,
  );
}

async function pushIndex(registry: DirRegistry, r: string, tag: string | undefined, ...manifests: Content[]) {
  const list = content(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: mediaTypes.imageIndex,
      manifests: manifests.map(({ descriptor }) => descriptor),
    }),
    mediaTypes.imageIndex,
  );
  await registry.pushManifest(r, tag, list.bytes, mediaTypes.imageIndex);
  return list;
}

describe('collecting garbage in a DirRegistry', () => {
  it('frees the blobs that no manifest of their repository needs', async () => {
    const root = tempDir();
    const registry = new DirRegistry(root);
    const { layer, config } = await pushImage(registry, 'a', 'v1');
    const lost = content(1_000);
    await push(registry, 'a', lost);
    await registry.mountBlob('a', 'b', layer.descriptor.digest);
    const report = await registry.collectGarbage({ olderThanMs: 0 });
    // The layer is needed in `a`, and a lost mount in `b`, which is gone with it.
    expect(report).toMatchObject({
      blobs: { count: 2, bytes: 1_000 + layer.bytes.byteLength },
      content: { count: 1, bytes: 1_000 },
      manifests: nothing,
      repositories: 1,
    });
    expect(poolHas(root, lost.descriptor.digest)).toBe(false);
    await expect(registry.resolveBlob('a', lost.descriptor.digest)).rejects.toMatchObject({ code: 'BLOB_UNKNOWN' });
    for (const { bytes, descriptor } of [layer, config])
      expect(await readAll(await registry.getBlob('a', descriptor.digest))).toEqual(bytes);
    expect(await listAll(registry.repositories())).toEqual(['a']);
    checkNothingUnreferenced(root);
  });

  it('keeps untagged manifests unless they are asked for', async () => {
    const root = tempDir();
    const registry = new DirRegistry(root);
    const { manifest } = await pushImage(registry, 'a', undefined);
    expect(await registry.collectGarbage({ olderThanMs: 0 })).toMatchObject({ manifests: nothing, blobs: nothing });
    expect(await has(registry, 'a', manifest)).toBe(true);
    expect(await registry.collectGarbage(all)).toMatchObject({
      manifests: { count: 1 },
      blobs: { count: 2 },
      content: { count: 3 },
      repositories: 1,
    });
    expect(readdirSync(path.join(root, 'repositories'))).toEqual([]);
    expect(readdirSync(path.join(root, 'blobs/sha256'))).toEqual([]);
  });

  it('keeps what tags, indexes of indexes and kept subjects lead to, and nothing else', async () => {
    const root = tempDir();
    const registry = new DirRegistry(root);
    const push1 = async (changes = {}) => (await pushImage(registry, 'a/b', undefined, changes)).manifest;
    const [deep, flat, free, gone] = [await push1(), await push1(), await push1(), await push1()];
    const inner = await pushIndex(registry, 'a/b', undefined, deep);
    const outer = await pushIndex(registry, 'a/b', 'tagged', inner, flat);
    const orphanIndex = await pushIndex(registry, 'a/b', undefined, free);
    const signature = await push1({ subject: deep.descriptor, artifactType: 'x/signature' });
    const onSignature = await push1({ subject: signature.descriptor, artifactType: 'x/note' });
    const onGone = await push1({ subject: gone.descriptor, artifactType: 'x/signature' });
    const dangling = await push1({ subject: content('nowhere', mediaTypes.imageManifest).descriptor });
    const report = await registry.collectGarbage(all);
    for (const kept of [deep, flat, inner, outer, signature, onSignature])
      expect(await has(registry, 'a/b', kept)).toBe(true);
    for (const removed of [free, gone, orphanIndex, onGone, dangling])
      expect(await has(registry, 'a/b', removed)).toBe(false);
    expect(report).toMatchObject({ manifests: { count: 5 }, referrers: { count: 2 } });
    expect(await listAll(registry.referrers('a/b', deep.descriptor.digest))).toHaveLength(1);
    expect(await listAll(registry.referrers('a/b', gone.descriptor.digest))).toEqual([]);
    await checkStore(root);
    checkNothingUnreferenced(root);
  });

  it('keeps what is young, and what somebody was just told to be there', async () => {
    const root = tempDir();
    const registry = new DirRegistry(root);
    const [old, asked, pushedAgain, mounted] = [content(10), content(20), content(30), content(40)];
    for (const blob of [old, asked, pushedAgain, mounted]) await push(registry, 'a', blob);
    const { manifest } = await pushImage(registry, 'a', undefined);
    const { manifest: askedManifest, layer } = await pushImage(registry, 'a', undefined);
    makeOld(root);
    await registry.resolveBlob('a', asked.descriptor.digest);
    await registry.resolveManifest('a', askedManifest.descriptor.digest);
    await push(registry, 'a', pushedAgain);
    await registry.mountBlob('a', 'b', mounted.descriptor.digest);
    const young = content(50);
    await push(registry, 'a', young);
    const report = await registry.collectGarbage({ olderThanMs: 600_000, untagged: true });
    expect(report).toMatchObject({ manifests: { count: 1 }, blobs: { count: 3 } });
    for (const blob of [asked, pushedAgain, mounted, young, layer])
      expect((await registry.resolveBlob('a', blob.descriptor.digest)).size).toBe(blob.bytes.byteLength);
    expect(await has(registry, 'a', askedManifest)).toBe(true);
    expect(await has(registry, 'a', manifest)).toBe(false);
    expect(poolHas(root, old.descriptor.digest)).toBe(false);
  });

  it('takes what indexes of blobs and documents of unknown types name for needed', async () => {
    const root = tempDir();
    const registry = new DirRegistry(root);
    const [cached, named] = [content(100), content(200)];
    await push(registry, 'a', cached);
    await push(registry, 'a', named);
    await pushIndex(registry, 'a', 'cache', cached);
    const unknown = Buffer.from(JSON.stringify({ fsLayers: [{ blobSum: named.descriptor.digest }] }));
    await registry.pushManifest('a', 'old', unknown, 'application/vnd.docker.distribution.manifest.v1+prettyjws');
    expect(await registry.collectGarbage(all)).toMatchObject({ manifests: nothing, blobs: nothing, content: nothing });
  });

  it('reports the same without removing anything when it is only tried', async () => {
    const root = tempDir();
    const registry = new DirRegistry(root);
    const kept = await pushImage(registry, 'a/b/c', 'v1');
    const lost = await pushImage(registry, 'gone', undefined);
    await registry.mountBlob('gone', 'a/b/c', lost.layer.descriptor.digest);
    const upload = await registry.pushBlobChunked('a/b/c');
    await upload.write(Buffer.alloc(77));
    await upload.close();
    await pushImage(registry, 'a/b/c', undefined, { subject: lost.manifest.descriptor });
    writeFileSync(path.join(root, '.0123456789abcdef.tmp'), 'half');
    writeFileSync(path.join(root, 'repositories/gone/_manifests/sha256/.0123456789abcdef.tmp'), 'half');
    const files = () => new Set(readdirSync(root, { recursive: true, encoding: 'utf8' }));
    const before = files();
    const tried = await registry.collectGarbage({ ...all, dryRun: true });
    expect(files()).toEqual(before);
    expect(tried).toMatchObject({
      uploads: { count: 1, bytes: 77 },
      temporary: { count: 2, bytes: 8 },
      manifests: { count: 2 },
      referrers: { count: 1 },
      repositories: 1,
    });
    expect(await registry.collectGarbage(all)).toEqual(tried);
    expect(await has(registry, 'a/b/c', kept.manifest)).toBe(true);
    const none = await registry.collectGarbage(all);
    expect(none).toEqual({
      uploads: nothing,
      temporary: nothing,
      manifests: nothing,
      blobs: nothing,
      referrers: nothing,
      content: nothing,
      repositories: 0,
    });
  });

  it('finishes what a killed process left half done', async () => {
    const root = tempDir();
    const registry = new DirRegistry(root);
    const { layer } = await pushImage(registry, 'a', 'v1');
    const lost = content(500);
    await push(registry, 'b', lost);
    const pool = path.join(root, 'blobs/sha256');
    const doomed = (digest: Digest) => path.join(pool, `.${digestHex(digest)}.0123456789abcdef.tmp`);
    // Killed after the pool let go, with and without a repository that has it.
    renameSync(path.join(pool, digestHex(layer.descriptor.digest)), doomed(layer.descriptor.digest));
    renameSync(path.join(pool, digestHex(lost.descriptor.digest)), doomed(lost.descriptor.digest));
    // Killed before the repository had its link, and before the manifest followed its media type.
    const unused = content(300);
    writeFileSync(path.join(pool, digestHex(unused.descriptor.digest)), unused.bytes);
    writeFileSync(path.join(root, 'repositories/a/_manifests/sha256', `${'a'.repeat(64)}.type`), 'a/b');
    mkdirSync(path.join(root, 'repositories/empty/deep'), { recursive: true });
    const report = await registry.collectGarbage(all);
    expect(report).toMatchObject({ temporary: { count: 1 }, blobs: { count: 1 }, content: { count: 2, bytes: 800 } });
    expect(poolHas(root, layer.descriptor.digest)).toBe(true);
    expect(readdirSync(path.join(root, 'repositories'))).toEqual(['a']);
    await registry.collectGarbage(all);
    await checkStore(root);
    checkNothingUnreferenced(root);
  });

  it('keeps the images of other tools in index.json, and what they need', async () => {
    const root = tempDir();
    const registry = new DirRegistry(root);
    await pushImage(registry, 'a', 'v1');
    const others = new LayoutRegistry(root);
    const { manifest, layer, config } = await pushImage(others, '', 'theirs');
    expect(await registry.collectGarbage(all)).toMatchObject({ content: nothing });
    for (const { descriptor } of [manifest, layer, config]) expect(poolHas(root, descriptor.digest)).toBe(true);
    expect([...indexedTags(root).keys()].sort()).toEqual(['a:v1', 'theirs']);
    await others.deleteTag('', 'theirs');
    expect(await registry.collectGarbage(all)).toMatchObject({ content: { count: 3 } });
  });

  it('removes no manifest of a repository with a damaged tag, and goes on with the others', async () => {
    const root = tempDir();
    const registry = new DirRegistry(root);
    const unsure = await pushImage(registry, 'a', 'v1');
    const untagged = await pushImage(registry, 'b', undefined);
    writeFileSync(path.join(root, 'repositories/a/_tags/v1'), 'sha256:dam');
    expect(await registry.collectGarbage(all)).toMatchObject({ manifests: { count: 1 } });
    expect(await registry.resolveManifest('a', unsure.manifest.descriptor.digest)).toEqual(unsure.manifest.descriptor);
    await expect(registry.resolveManifest('b', untagged.manifest.descriptor.digest)).rejects.toMatchObject({
      code: 'MANIFEST_UNKNOWN',
    });
    expect(existsSync(path.join(root, 'repositories/a/_tags/v1'))).toBe(true);
  });

  it('removes nothing while index.json cannot be understood', async () => {
    const root = tempDir();
    const registry = new DirRegistry(root);
    const blob = content(10);
    await push(registry, 'a', blob);
    for (const text of ['<html>', '{"manifests":[{"digest":"sha256:x"}]}']) {
      writeFileSync(path.join(root, 'index.json'), text);
      await expect(registry.collectGarbage({ ...all, dryRun: true })).rejects.toMatchObject({
        code: 'UNKNOWN',
        message: expect.stringContaining('index.json'),
      });
    }
    expect(readFileSync(path.join(root, 'blobs/sha256', digestHex(blob.descriptor.digest)))).toEqual(blob.bytes);
  });

  it('refuses a manifest whose blob was collected, and takes it when the blob is pushed again', async () => {
    const registry = new DirRegistry(tempDir());
    const config = content('{}', mediaTypes.imageConfig);
    const manifest = manifestOf(config.descriptor, []);
    await push(registry, 'a', config);
    await registry.collectGarbage(all);
    const pushing = () => registry.pushManifest('a', 'v1', manifest.bytes, mediaTypes.imageManifest);
    await expect(pushing()).rejects.toMatchObject({ code: 'MANIFEST_BLOB_UNKNOWN' });
    await push(registry, 'a', config);
    await pushing();
    expect((await registry.resolveTag('a', 'v1')).digest).toBe(manifest.descriptor.digest);
  });

  it('ends an upload under way that it removed with BLOB_UPLOAD_UNKNOWN', async () => {
    const registry = new DirRegistry(tempDir());
    const blob = content(10);
    const upload = await registry.pushBlobChunked('a');
    await upload.write(blob.bytes);
    expect(await registry.collectGarbage(all)).toMatchObject({ uploads: { count: 1, bytes: 10 }, repositories: 1 });
    await expect(upload.commit(blob.descriptor.digest)).rejects.toMatchObject({ code: 'BLOB_UPLOAD_UNKNOWN' });
    await push(registry, 'a', blob);
    expect((await registry.resolveBlob('a', blob.descriptor.digest)).size).toBe(10);
  });

  it('makes no store where there is none', async () => {
    const root = path.join(tempDir(), 'none');
    expect(await new DirRegistry(root).collectGarbage(all)).toMatchObject({ content: nothing, repositories: 0 });
    expect(existsSync(root)).toBe(false);
  });

  it('stops for a signal', async () => {
    const registry = new DirRegistry(tempDir());
    await pushImage(registry, 'a', 'v1');
    const signal = AbortSignal.abort(new Error('enough'));
    await expect(registry.collectGarbage({ ...all, signal })).rejects.toThrow('enough');
  });

  it('counts no link of the file system twice', async () => {
    const root = tempDir();
    const registry = new DirRegistry(root);
    const blob = content(64);
    for (const name of ['a', 'b', 'c']) await push(registry, name, blob);
    const pool = path.join(root, 'blobs/sha256', digestHex(blob.descriptor.digest));
    linkSync(pool, path.join(root, 'kept-elsewhere'));
    expect(statSync(pool).nlink).toBe(5);
    // Whoever holds one more link keeps the content in the pool.
    expect(await registry.collectGarbage({ ...all, dryRun: true })).toMatchObject({
      blobs: { count: 3 },
      content: nothing,
      repositories: 3,
    });
  });
});
