import { describe, expect, it } from 'vitest';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { MemoryRegistry } from '../../src/registry/memory-registry.ts';
import { content, listAll, push, pushImage, readAll } from '../support/registry-content.ts';

describe('MemoryRegistry', () => {
  it('takes no more than it may hold, and again once something is gone', async () => {
    const registry = new MemoryRegistry({ maxBytes: 10_000 });
    const [one, two] = [content(6_000), content(3_900)];
    await push(registry, 'a', one);
    await expect(push(registry, 'a', two)).rejects.toMatchObject({
      code: 'TOO_LARGE',
      message: expect.stringContaining('limit of 10000'),
    });
    expect(await readAll(await registry.getBlob('a', one.descriptor.digest))).toEqual(one.bytes);
    await registry.deleteBlob('a', one.descriptor.digest);
    await push(registry, 'a', two);
    expect(await readAll(await registry.getBlob('a', two.descriptor.digest))).toEqual(two.bytes);
  });

  it('counts content of several repositories once, and frees it with the last one', async () => {
    const registry = new MemoryRegistry();
    const blob = content(100_000);
    const { digest } = blob.descriptor;
    await push(registry, 'a', blob);
    await push(registry, 'b', blob);
    await registry.mountBlob('a', 'c', digest);
    expect(registry.bytesHeld).toBeGreaterThanOrEqual(100_000);
    expect(registry.bytesHeld).toBeLessThan(110_000);
    await registry.deleteBlob('a', digest);
    await registry.deleteBlob('b', digest);
    expect(await readAll(await registry.getBlob('c', digest))).toEqual(blob.bytes);
    await registry.deleteBlob('c', digest);
    expect(registry.bytesHeld).toBeLessThan(10_000);
  });

  it('gives back what uploads, manifests and tags took', async () => {
    const registry = new MemoryRegistry();
    await (await registry.pushBlobChunked('a')).cancel();
    const empty = registry.bytesHeld;
    const upload = await registry.pushBlobChunked('a');
    await upload.write(Buffer.alloc(5_000));
    expect(registry.bytesHeld).toBe(empty + 5_000);
    await upload.cancel();
    await upload.cancel();
    await expect(push(registry, 'a', { ...content(9), bytes: Buffer.alloc(9) })).rejects.toMatchObject({
      code: 'DIGEST_INVALID',
    });
    expect(registry.bytesHeld).toBe(empty);
    const { manifest, config, layer } = await pushImage(registry, 'a', 'v1');
    await registry.pushManifest('a', 'v2', manifest.bytes, manifest.descriptor.mediaType);
    await push(registry, 'a', layer);
    await registry.deleteTag('a', 'v2');
    await registry.deleteManifest('a', manifest.descriptor.digest);
    for (const blob of [config, layer]) await registry.deleteBlob('a', blob.descriptor.digest);
    expect(registry.bytesHeld).toBe(empty);
  });

  it('limits names that hold no bytes as well', async () => {
    const registry = new MemoryRegistry({ maxBytes: 20_000 });
    const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, manifests: [] }));
    const pushing = async () => {
      for (let i = 0; i < 200; i += 1) await registry.pushManifest('a', `t${i}`, bytes, mediaTypes.imageIndex);
    };
    await expect(pushing()).rejects.toMatchObject({ code: 'TOO_LARGE' });
    const making = async () => {
      for (let i = 0; i < 200; i += 1) await (await registry.pushBlobChunked(`r${i}`)).cancel();
    };
    await expect(making()).rejects.toMatchObject({ code: 'TOO_LARGE' });
  });

  it('limits uploads under way, and drops those that nobody continues', async () => {
    const registry = new MemoryRegistry({ maxUploads: 2 });
    const uploads = [await registry.pushBlobChunked('a'), await registry.pushBlobChunked('a')];
    await expect(registry.pushBlobChunked('a')).rejects.toMatchObject({ code: 'TOOMANYREQUESTS' });
    await uploads[0]?.cancel();
    await registry.pushBlobChunked('a');
    const impatient = new MemoryRegistry({ maxUploads: 1, uploadIdleMs: 0 });
    const idle = await impatient.pushBlobChunked('a');
    await idle.write(Buffer.alloc(100));
    const held = impatient.bytesHeld;
    await impatient.pushBlobChunked('a');
    expect(impatient.bytesHeld).toBe(held - 100);
    await expect(impatient.resumeBlob('a', idle.id, undefined)).rejects.toMatchObject({ code: 'BLOB_UPLOAD_UNKNOWN' });
    await expect(idle.write(Buffer.alloc(1))).rejects.toMatchObject({ code: 'BLOB_UPLOAD_INVALID' });
  });

  it('keeps an upload to its repository and to one writer at a time', async () => {
    const registry = new MemoryRegistry();
    const blob = content(100);
    const first = await registry.pushBlobChunked('a');
    await first.write(blob.bytes.subarray(0, 50));
    await expect(registry.resumeBlob('b', first.id, undefined)).rejects.toMatchObject({ code: 'BLOB_UPLOAD_UNKNOWN' });
    const second = await registry.resumeBlob('a', first.id, 50);
    await second.write(blob.bytes.subarray(50));
    await expect(first.write(Buffer.alloc(1))).rejects.toMatchObject({ code: 'RANGE_INVALID' });
    await second.commit(blob.descriptor.digest);
    await expect(first.commit(blob.descriptor.digest)).rejects.toMatchObject({ code: 'BLOB_UPLOAD_INVALID' });
    await first.cancel();
    expect(await readAll(await registry.getBlob('a', blob.descriptor.digest))).toEqual(blob.bytes);
  });

  it('keeps many small writes, and reads any range of them', async () => {
    const registry = new MemoryRegistry();
    const blob = content(70_000);
    const upload = await registry.pushBlobChunked('a');
    for (let at = 0; at < blob.bytes.byteLength; at += 7) await upload.write(blob.bytes.subarray(at, at + 7));
    await upload.commit(blob.descriptor.digest);
    for (const [start, end] of [
      [0, 1],
      [1_023, 1_025],
      [4_095, 65_537],
      [69_999, 70_000],
    ] as const)
      expect(await readAll(await registry.getBlobRange('a', blob.descriptor.digest, start, end))).toEqual(
        blob.bytes.subarray(start, end),
      );
  });

  it('is not changed by what callers do to their bytes', async () => {
    const registry = new MemoryRegistry();
    const { manifest } = await pushImage(registry, 'a', 'v1');
    const bytes = Buffer.from(manifest.bytes);
    manifest.bytes.fill(0);
    (await registry.getTag('a', 'v1')).bytes.fill(0);
    expect(Buffer.from((await registry.getTag('a', 'v1')).bytes)).toEqual(bytes);
    const blob = content(100);
    const pushed = Buffer.from(blob.bytes);
    await push(registry, 'a', blob);
    (await readAll(await registry.getBlob('a', blob.descriptor.digest))).fill(0);
    blob.bytes.fill(0);
    expect(await readAll(await registry.getBlob('a', blob.descriptor.digest))).toEqual(pushed);
    expect(await listAll(registry.repositories())).toEqual(['a']);
  });
});
