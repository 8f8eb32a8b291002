import { existsSync, readdirSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { digestHex } from '../../src/oci/digest.ts';
import { DirRegistry } from '../../src/registry/dir-registry.ts';
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
});
