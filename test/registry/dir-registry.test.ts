import {
  closeSync,
  existsSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  watch,
  writeFileSync,
} from 'node:fs';
import { rmdir } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { tryLock } from '../../src/native/sys.ts';
import { digestHex } from '../../src/oci/digest.ts';
import { DirRegistry } from '../../src/registry/dir-registry.ts';
import { LayoutRegistry } from '../../src/registry/layout-registry.ts';
import { serveRegistry } from '../../src/registry/serve-registry.ts';
import { rounds } from '../support/fixtures.ts';
import { runOk } from '../support/run.ts';
import { indexedTags } from '../support/store-check.ts';
import { content, listAll, push, pushImage, readAll } from '../support/registry-content.ts';
import { tempDir } from '../support/tmp.ts';

describe('DirRegistry on disk', () => {
  it('keeps a blob once for all repositories and frees it with the last one', async () => {
    const root = tempDir();
    const registry = new DirRegistry(root);
    const blob = content(10_000);
    const { digest } = blob.descriptor;
    const pool = path.join(root, 'blobs/sha256', digestHex(digest));
    await push(registry, 'one', blob);
    await push(registry, 'two/deep', blob);
    await registry.mountBlob('one', 'three', digest);
    expect(statSync(pool).nlink).toBe(4);
    await registry.deleteBlob('one', digest);
    await registry.deleteBlob('two/deep', digest);
    expect(statSync(pool).nlink).toBe(2);
    await registry.deleteBlob('three', digest);
    expect(existsSync(pool)).toBe(false);
  });

  it('keeps the content that another tool has an image of', async () => {
    const root = tempDir();
    const layout = new LayoutRegistry(root);
    const { manifest, config, layer } = await pushImage(layout, 'x', 'theirs');
    const registry = new DirRegistry(root);
    for (const blob of [config, layer]) await push(registry, 'a', blob);
    await registry.pushManifest('a', 'v1', manifest.bytes, manifest.descriptor.mediaType);
    await registry.deleteManifest('a', manifest.descriptor.digest);
    await registry.deleteBlob('a', config.descriptor.digest);
    expect(await layout.getTag('x', 'theirs')).toMatchObject({ bytes: manifest.bytes });
    expect(await readAll(await layout.getBlob('x', config.descriptor.digest))).toEqual(config.bytes);
  });

  it('begins an upload while a collector holds the repository, and ends it when it lets go', async () => {
    const root = tempDir();
    const registry = new DirRegistry(root);
    const blob = content(1_000);
    await push(registry, 'a/b', content(10));
    const held = readdirSync(path.join(root, '.locks')).map((name) => openSync(path.join(root, '.locks', name), 'r'));
    for (const fd of held) expect(tryLock(fd, 'exclusive')).toBe(true);
    const upload = await registry.pushBlobChunked('a/b');
    await upload.write(blob.bytes);
    await expect(upload.commit(blob.descriptor.digest, { signal: AbortSignal.timeout(50) })).rejects.toThrow('timeout');
    for (const fd of held) closeSync(fd);
    const resumed = await registry.resumeBlob('a/b', upload.id, 1_000);
    await resumed.commit(blob.descriptor.digest);
    expect(await readAll(await registry.getBlob('a/b', blob.descriptor.digest))).toEqual(blob.bytes);
  });

  it('makes folders again that are removed as empty while uploads begin', async () => {
    const root = tempDir();
    const registry = new DirRegistry(root);
    const ended = new AbortController();
    const removing = (async () => {
      while (!ended.signal.aborted)
        for (const name of ['a/b/_uploads', 'a/b', 'a'])
          await rmdir(path.join(root, 'repositories', name)).catch((error: NodeJS.ErrnoException) =>
            expect(['ENOENT', 'ENOTEMPTY']).toContain(error.code),
          );
    })();
    try {
      for (let round = 0; round < rounds(300, 100); round += 1) await (await registry.pushBlobChunked('a/b')).cancel();
    } finally {
      ended.abort();
      await removing;
    }
  });

  it('says what is in the way of a folder', async () => {
    const root = tempDir();
    const registry = new DirRegistry(root);
    mkdirSync(path.join(root, 'blobs'));
    writeFileSync(path.join(root, 'blobs/sha256'), '');
    await expect(push(registry, 'a', content(10))).rejects.toThrow();
    rmSync(path.join(root, 'blobs/sha256'));
    await push(registry, 'a', content(10));
  });

  it('is the same after a restart, uploads under way included', async () => {
    const root = tempDir();
    const first = new DirRegistry(root);
    const { manifest } = await pushImage(first, 'a/b', 'v1');
    const blob = content(1_000);
    const upload = await first.pushBlobChunked('a/b');
    await upload.write(blob.bytes.subarray(0, 400));
    await upload.close();
    const second = new DirRegistry(root);
    expect(await second.resolveTag('a/b', 'v1')).toEqual(manifest.descriptor);
    const resumed = await second.resumeBlob('a/b', upload.id, 400);
    await resumed.write(blob.bytes.subarray(400));
    await resumed.commit(blob.descriptor.digest);
    expect(await readAll(await second.getBlob('a/b', blob.descriptor.digest))).toEqual(blob.bytes);
  });

  it('takes the same blob from many at once', async () => {
    const root = tempDir();
    const registries = [new DirRegistry(root), new DirRegistry(root)];
    const blob = content(50_000);
    const { digest } = blob.descriptor;
    await Promise.all(
      Array.from({ length: 20 }, async (_, i) => {
        const registry = registries[i % 2] as DirRegistry;
        const repository = `r${i % 5}`;
        await push(registry, repository, blob);
        if (i >= 10) await registry.deleteBlob(repository, digest).catch(() => {});
      }),
    );
    await push(registries[0] as DirRegistry, 'r0', blob);
    expect(await readAll(await (registries[1] as DirRegistry).getBlob('r0', digest))).toEqual(blob.bytes);
    const uploads = Array.from({ length: 5 }, (_, i) => path.join(root, `repositories/r${i}/_uploads`));
    expect(uploads.flatMap((dir) => (existsSync(dir) ? readdirSync(dir) : []))).toEqual([]);
  });

  it('lists nothing that a crash left half written', async () => {
    const root = tempDir();
    const registry = new DirRegistry(root);
    await pushImage(registry, 'a', 'v1');
    writeFileSync(path.join(root, 'repositories/a/_tags/.0123.tmp'), 'sha2');
    expect(await listAll(registry.tags('a'))).toEqual(['v1']);
    writeFileSync(path.join(root, 'repositories/a/_tags/damaged'), 'sha2');
    await expect(registry.getTag('a', 'damaged')).rejects.toMatchObject({
      code: 'UNKNOWN',
      message: expect.stringContaining('a:damaged'),
    });
  });

  it('notices a blob that changed on disk', async () => {
    const root = tempDir();
    const registry = new DirRegistry(root);
    const blob = content(1_000);
    await push(registry, 'a', blob);
    writeFileSync(path.join(root, 'blobs/sha256', digestHex(blob.descriptor.digest)), Buffer.alloc(1_000));
    await expect(registry.getBlob('a', blob.descriptor.digest).then(readAll)).rejects.toMatchObject({
      code: 'DIGEST_INVALID',
    });
    const unchecked = await registry.getBlob('a', blob.descriptor.digest, { verify: false });
    expect(await readAll(unchecked)).toEqual(Buffer.alloc(1_000));
  });

  it('removes uploads that nobody continues', async () => {
    const root = tempDir();
    const registry = new DirRegistry(root);
    const old = await registry.pushBlobChunked('a/b');
    const young = await registry.pushBlobChunked('a/b');
    await old.close();
    await young.close();
    const hourAgo = Date.now() / 1000 - 3_600;
    utimesSync(path.join(root, 'repositories/a/b/_uploads', old.id), hourAgo, hourAgo);
    expect(await registry.collectGarbage({ olderThanMs: 60_000 })).toMatchObject({ uploads: { count: 1, bytes: 0 } });
    await expect(registry.resumeBlob('a/b', old.id, undefined)).rejects.toMatchObject({ code: 'BLOB_UPLOAD_UNKNOWN' });
    await (await registry.resumeBlob('a/b', young.id, undefined)).cancel();
  });

  it('takes one writer of an upload at a time', async () => {
    const registry = new DirRegistry(tempDir());
    const blob = content(100);
    const first = await registry.pushBlobChunked('a');
    await first.write(blob.bytes.subarray(0, 50));
    const second = await registry.resumeBlob('a', first.id, 50);
    const third = await registry.resumeBlob('a', first.id, 50);
    const signal = AbortSignal.timeout(50);
    await expect(second.write(blob.bytes.subarray(50), { signal })).rejects.toMatchObject({ name: 'TimeoutError' });
    await first.write(blob.bytes.subarray(50));
    await first.close();
    await expect(second.write(blob.bytes.subarray(50))).rejects.toMatchObject({ code: 'RANGE_INVALID' });
    await second.close();
    const last = await registry.resumeBlob('a', first.id, 100);
    await last.commit(blob.descriptor.digest);
    // What is committed cannot be written to any more.
    await expect(third.write(Buffer.from('x'))).rejects.toMatchObject({ code: 'BLOB_UPLOAD_UNKNOWN' });
    await third.cancel();
    expect(await readAll(await registry.getBlob('a', blob.descriptor.digest))).toEqual(blob.bytes);
  });

  it('lets nobody add to an upload that was killed when it had become a blob already', async () => {
    const root = tempDir();
    const registry = new DirRegistry(root);
    const { bytes, descriptor } = content(100);
    const upload = await registry.pushBlobChunked('a');
    await upload.write(bytes);
    await upload.commit(descriptor.digest);
    linkSync(
      path.join(root, 'repositories/a/_blobs/sha256', digestHex(descriptor.digest)),
      path.join(root, 'repositories/a/_uploads', upload.id),
    );
    const resumed = await registry.resumeBlob('a', upload.id, undefined);
    await expect(resumed.write(Buffer.from('more'))).rejects.toMatchObject({ code: 'BLOB_UPLOAD_UNKNOWN' });
    await resumed.close();
    expect(await readAll(await registry.getBlob('a', descriptor.digest))).toEqual(bytes);
    const again = await registry.resumeBlob('a', upload.id, 100);
    expect(await again.commit(descriptor.digest)).toMatchObject({ size: 100 });
    expect(readdirSync(path.join(root, 'repositories/a/_uploads'))).toEqual([]);
  });

  it('takes a blob anew that the disk cut short', async () => {
    const root = tempDir();
    const registry = new DirRegistry(root);
    const blob = content(1_000);
    for (const repository of ['a', 'b']) await push(registry, repository, blob);
    truncateSync(path.join(root, 'blobs/sha256', digestHex(blob.descriptor.digest)), 500);
    await push(registry, 'a', blob);
    expect(await readAll(await registry.getBlob('a', blob.descriptor.digest))).toEqual(blob.bytes);
    await push(registry, 'b', blob);
    expect(await readAll(await registry.getBlob('b', blob.descriptor.digest))).toEqual(blob.bytes);
  });

  it('notices a manifest that changed on disk, and takes it anew', async () => {
    const root = tempDir();
    const registry = new DirRegistry(root);
    const { manifest } = await pushImage(registry, 'a', 'v1');
    const { digest } = manifest.descriptor;
    writeFileSync(path.join(root, 'blobs/sha256', digestHex(digest)), '{}');
    await expect(registry.getTag('a', 'v1')).rejects.toMatchObject({ code: 'DIGEST_INVALID' });
    await registry.deleteManifest('a', digest);
    await registry.pushManifest('a', 'v1', manifest.bytes, manifest.descriptor.mediaType);
    expect(Buffer.from((await registry.getTag('a', 'v1')).bytes)).toEqual(manifest.bytes);
  });

  // Some seconds: it makes 65 000 links.
  it.skipIf(rounds(100, 1, 0) < 100)('stores content once more when its file can have no more names', async () => {
    const root = tempDir();
    const registry = new DirRegistry(root);
    const blob = content(10);
    const { digest } = blob.descriptor;
    await push(registry, 'one', blob);
    const pool = path.join(root, 'blobs/sha256', digestHex(digest));
    const most = fillLinks(pool, path.join(root, 'links'));
    if (most === undefined) return;
    await expect(registry.mountBlob('one', 'two', digest)).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    await push(registry, 'two', blob);
    expect(await readAll(await registry.getBlob('two', digest))).toEqual(blob.bytes);
    expect(await readAll(await registry.getBlob('one', digest))).toEqual(blob.bytes);
    expect(statSync(pool).nlink).toBe(2);
  });
});

describe('index.json of a DirRegistry', () => {
  it('follows every tag that is set, moved and deleted', async () => {
    const root = tempDir();
    const registry = new DirRegistry(root);
    const one = await pushImage(registry, 'a/b', 'v1');
    await pushImage(registry, 'c', undefined);
    expect([...indexedTags(root)]).toEqual([['a/b:v1', one.manifest.descriptor.digest]]);
    const two = await pushImage(registry, 'a/b', 'v1');
    await pushImage(registry, 'a/b', 'v2');
    expect(indexedTags(root).get('a/b:v1')).toBe(two.manifest.descriptor.digest);
    await registry.deleteTag('a/b', 'v2');
    expect([...indexedTags(root).keys()]).toEqual(['a/b:v1']);
    await registry.deleteManifest('a/b', two.manifest.descriptor.digest);
    expect([...indexedTags(root).keys()]).toEqual([]);
    expect(JSON.parse(readFileSync(path.join(root, 'oci-layout'), 'utf8'))).toEqual({ imageLayoutVersion: '1.0.0' });
  });

  it('is made whole by the first change of a process, and by a repair', async () => {
    const root = tempDir();
    const registry = new DirRegistry(root);
    await pushImage(registry, 'a', 'v1');
    await pushImage(registry, 'b/c', 'v2');
    const damage = () => {
      const index = JSON.parse(readFileSync(path.join(root, 'index.json'), 'utf8')) as { manifests: object[] };
      const stale = { ...index.manifests[0], annotations: { 'org.opencontainers.image.ref.name': 'gone:v1' } };
      writeFileSync(path.join(root, 'index.json'), JSON.stringify({ ...index, manifests: [stale], kept: true }));
    };
    damage();
    await pushImage(new DirRegistry(root), 'd', 'v3');
    expect([...indexedTags(root).keys()].sort()).toEqual(['a:v1', 'b/c:v2', 'd:v3']);
    damage();
    await registry.repair();
    expect([...indexedTags(root).keys()].sort()).toEqual(['a:v1', 'b/c:v2', 'd:v3']);
    rmSync(path.join(root, 'index.json'));
    await registry.repair();
    expect([...indexedTags(root).keys()].sort()).toEqual(['a:v1', 'b/c:v2', 'd:v3']);
    const { ino } = statSync(path.join(root, 'index.json'));
    await registry.repair();
    expect(statSync(path.join(root, 'index.json')).ino).toBe(ino);
  });

  it('is rewritten once for many changes that come together', async () => {
    const root = tempDir();
    const registry = new DirRegistry(root);
    const { manifest } = await pushImage(registry, 'a', 'first');
    let rewrites = 0;
    const watcher = watch(root, (_event, name) => (rewrites += name === 'index.json' ? 1 : 0));
    const tags = Array.from({ length: 60 }, (_, i) => `t${i}`);
    await Promise.all(
      tags.map((tag) => registry.pushManifest('a', tag, manifest.bytes, manifest.descriptor.mediaType)),
    );
    watcher.close();
    expect([...indexedTags(root).keys()].sort()).toEqual(['a:first', ...tags.map((tag) => `a:${tag}`)].sort());
    expect(rewrites).toBeLessThan(60);
  });

  it('is left to the next change when a signal ends the wait for it', async () => {
    const root = tempDir();
    const registry = new DirRegistry(root);
    const { manifest } = await pushImage(registry, 'a', 'v1');
    const held = openSync(path.join(root, '.lock'), 'r');
    expect(tryLock(held, 'exclusive')).toBe(true);
    const signal = AbortSignal.timeout(100);
    await expect(
      registry.pushManifest('a', 'v2', manifest.bytes, manifest.descriptor.mediaType, { signal }),
    ).rejects.toMatchObject({ name: 'TimeoutError' });
    expect([...indexedTags(root).keys()]).toEqual(['a:v1']);
    closeSync(held);
    await registry.pushManifest('a', 'v3', manifest.bytes, manifest.descriptor.mediaType);
    expect([...indexedTags(root).keys()].sort()).toEqual(['a:v1', 'a:v2', 'a:v3']);
  });

  it('says what is wrong with an index that somebody damaged', async () => {
    const root = tempDir();
    const registry = new DirRegistry(root);
    const { manifest } = await pushImage(registry, 'a', 'v1');
    writeFileSync(path.join(root, 'index.json'), '<html>');
    await expect(registry.pushManifest('a', 'v2', manifest.bytes, manifest.descriptor.mediaType)).rejects.toMatchObject(
      { code: 'UNKNOWN', message: expect.stringContaining(root) },
    );
    expect(await registry.resolveTag('a', 'v2')).toEqual(manifest.descriptor);
    rmSync(path.join(root, 'index.json'));
    await registry.pushManifest('a', 'v2', manifest.bytes, manifest.descriptor.mediaType);
    expect([...indexedTags(root).keys()].sort()).toEqual(['a:v1', 'a:v2']);
  });

  it('lets skopeo and umoci read the store', async () => {
    const base = tempDir();
    const source = path.join(base, 'source');
    await runOk('umoci', ['init', '--layout', source]);
    await runOk('umoci', ['new', '--image', `${source}:v1`]);
    const rootfs = path.join(base, 'rootfs');
    mkdirSync(rootfs);
    writeFileSync(path.join(rootfs, 'file'), 'content');
    await runOk('umoci', ['insert', '--image', `${source}:v1`, rootfs, '/here']);
    const root = path.join(base, 'store');
    const server = await serveRegistry(new DirRegistry(root));
    onTestFinished(() => server.close());
    const target = `docker://${server.host}/library/app:1`;
    await runOk('skopeo', [
      '--insecure-policy',
      'copy',
      '--quiet',
      '--dest-tls-verify=false',
      `oci:${source}:v1`,
      target,
    ]);
    const { digest } = await new DirRegistry(root).resolveTag('library/app', '1');
    const inspected = JSON.parse(await runOk('skopeo', ['inspect', `oci:${root}:library/app:1`])) as { Digest: string };
    expect(inspected.Digest).toBe(digest);
    const copy = path.join(base, 'copy');
    await runOk('skopeo', ['--insecure-policy', 'copy', '--quiet', `oci:${root}:library/app:1`, `oci:${copy}:back`]);
    expect((await new LayoutRegistry(copy).resolveTag('', 'back')).digest).toBe(digest);
    expect((await runOk('umoci', ['list', '--layout', root])).trim()).toBe('library/app:1');
    expect((await new LayoutRegistry(root).resolveTag('', '1')).digest).toBe(digest);
  });
});

/** Gives a file as many names as it can have. Undefined where that is more than a test can make. */
function fillLinks(file: string, dir: string): number | undefined {
  mkdirSync(dir);
  for (let made = 0; made < 70_000; made += 1) {
    try {
      linkSync(file, path.join(dir, String(made)));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EMLINK') throw error;
      return made;
    }
  }
  return undefined;
}
