import { describe, expect, it } from 'vitest';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { DirRegistry } from '../../src/registry/dir-registry.ts';
import type { Registry } from '../../src/registry/interface.ts';
import { LayoutRegistry } from '../../src/registry/layout-registry.ts';
import { MemoryRegistry } from '../../src/registry/memory-registry.ts';
import { content, digestOf, manifestOf, push } from '../support/registry-content.ts';
import { readBack } from '../support/proxy-stack.ts';
import { tempDir } from '../support/tmp.ts';

const stores: readonly [string, () => Registry][] = [
  ['MemoryRegistry', () => new MemoryRegistry()],
  ['DirRegistry', () => new DirRegistry(tempDir())],
  ['LayoutRegistry', () => new LayoutRegistry(tempDir())],
];

describe('a store', () => {
  it.each(stores)(
    '%s takes a manifest without its blobs when it is told that they may be missing',
    async (_name, make) => {
      const registry = make();
      const config = content('{}', mediaTypes.imageConfig);
      const manifest = manifestOf(config.descriptor, []);
      const pushing = (allowMissing: boolean) =>
        registry.pushManifest('a', 'v1', manifest.bytes, mediaTypes.imageManifest, { allowMissing });
      await expect(pushing(false)).rejects.toMatchObject({ code: 'MANIFEST_BLOB_UNKNOWN' });
      await pushing(true);
      expect(await registry.resolveTag('a', 'v1')).toEqual(manifest.descriptor);
      await push(registry, 'a', config);
      await pushing(false);
    },
  );

  it.each(stores)('%s gives a tag that must be absent once, and to the same manifest again', async (_name, make) => {
    const registry = make();
    const config = content('{}', mediaTypes.imageConfig);
    await push(registry, 'a', config);
    const manifests = [1, 2, 3, 4].map((number) =>
      manifestOf(config.descriptor, [], { annotations: { n: `${number}` } }),
    );
    const outcomes = await Promise.allSettled(
      manifests.map(({ bytes }) =>
        registry.pushManifest('a', 'v1', bytes, mediaTypes.imageManifest, { ifAbsent: true }),
      ),
    );
    const won = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []));
    expect(won).toEqual([await registry.resolveTag('a', 'v1')]);
    for (const outcome of outcomes)
      if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'DENIED' });
    const again = manifests.find(({ descriptor }) => descriptor.digest === won[0]?.digest)?.bytes ?? Buffer.of();
    await registry.pushManifest('a', 'v1', again, mediaTypes.imageManifest, { ifAbsent: true });
    const other = manifests.find(({ descriptor }) => descriptor.digest !== won[0]?.digest)?.bytes ?? Buffer.of();
    await registry.pushManifest('a', 'v1', other, mediaTypes.imageManifest);
    expect((await registry.resolveTag('a', 'v1')).digest).toBe(digestOf(other));
  });

  it.each(stores)('%s gives back what was written to an upload until it is finished', async (_name, make) => {
    const registry = make();
    const { bytes, descriptor } = content(250_000);
    const upload = await registry.pushBlobChunked('a', undefined);
    await expect(readBack(upload, 0, 1)).rejects.toMatchObject({ code: 'RANGE_INVALID' });
    await upload.write(bytes.subarray(0, 150_000));
    expect(digestOf(await readBack(upload, 0, 150_000))).toBe(digestOf(bytes.subarray(0, 150_000)));
    expect(await readBack(upload, 65_530, 65_550)).toEqual(bytes.subarray(65_530, 65_550));
    expect(await readBack(upload, 149_999, 9_000_000)).toEqual(bytes.subarray(149_999, 150_000));
    for (const [start, end] of [
      [150_000, 150_001],
      [5, 5],
      [5, 4],
      [-1, 5],
      [0.5, 5],
    ] as const)
      await expect(readBack(upload, start, end)).rejects.toMatchObject({ code: 'RANGE_INVALID' });
    const aborted = { signal: AbortSignal.abort(new Error('enough')) };
    await expect(readBack(upload, 0, 1, aborted)).rejects.toThrow('enough');
    await upload.close();
    await expect(readBack(upload, 0, 1)).rejects.toMatchObject({ code: 'BLOB_UPLOAD_INVALID' });
    const resumed = await registry.resumeBlob('a', upload.id, undefined);
    await resumed.write(bytes.subarray(150_000));
    expect(digestOf(await readBack(resumed, 100_000, 250_000))).toBe(digestOf(bytes.subarray(100_000)));
    await resumed.commit(descriptor.digest);
    await expect(readBack(resumed, 0, 1)).rejects.toMatchObject({ code: 'BLOB_UPLOAD_INVALID' });
    const given = await registry.pushBlobChunked('a', undefined);
    await given.write(bytes);
    await given.cancel();
    await expect(readBack(given, 0, 1)).rejects.toMatchObject({ code: 'BLOB_UPLOAD_INVALID' });
  });
});
