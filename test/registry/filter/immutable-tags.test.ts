import { describe, expect, it } from 'vitest';
import { mediaTypes } from '../../../src/oci/media-type.ts';
import { DirRegistry, funcs, immutableTags } from '../../../src/registry/registry.ts';
import type { Registry } from '../../../src/registry/registry.ts';
import { content, listAll, push, pushImage } from '../../support/registry-content.ts';
import type { Content } from '../../support/registry-content.ts';
import { tempDir } from '../../support/tmp.ts';

const denied = expect.objectContaining({ name: 'RegistryError', code: 'DENIED' });

function indexOf(...manifests: readonly Content[]): Content {
  const document = {
    schemaVersion: 2,
    mediaType: mediaTypes.imageIndex,
    manifests: manifests.map(({ descriptor }) => descriptor),
  };
  return content(JSON.stringify(document), mediaTypes.imageIndex);
}

async function pushIndex(registry: Registry, tag: string | undefined, index: Content): Promise<void> {
  await registry.pushManifest('a', tag, index.bytes, index.descriptor.mediaType);
}

describe('immutable tags', () => {
  it('keep their manifest, and take the same one again', async () => {
    const registry = immutableTags(new DirRegistry(tempDir()));
    const { manifest } = await pushImage(registry, 'a', 'v1');
    await expect(pushImage(registry, 'a', 'v1')).rejects.toEqual(denied);
    expect(await registry.resolveTag('a', 'v1')).toEqual(manifest.descriptor);
    await registry.pushManifest('a', 'v1', manifest.bytes, mediaTypes.imageManifest);
    await registry.pushManifest('a', 'v2', manifest.bytes, mediaTypes.imageManifest);
    await pushImage(registry, 'b', 'v1');
    expect(await listAll(registry.tags('a'))).toEqual(['v1', 'v2']);
  });

  it('are not deleted, nor is their manifest or a blob it names', async () => {
    const registry = immutableTags(new DirRegistry(tempDir()));
    const { manifest, config, layer } = await pushImage(registry, 'a', 'v1');
    await expect(registry.deleteTag('a', 'v1')).rejects.toEqual(denied);
    await expect(registry.deleteManifest('a', manifest.descriptor.digest)).rejects.toEqual(denied);
    await expect(registry.deleteBlob('a', config.descriptor.digest)).rejects.toEqual(denied);
    await expect(registry.deleteBlob('a', layer.descriptor.digest)).rejects.toEqual(denied);
    expect(await registry.resolveTag('a', 'v1')).toEqual(manifest.descriptor);
    // The same blob in another repository is another matter.
    await push(registry, 'b', layer);
    await registry.deleteBlob('b', layer.descriptor.digest);
  });

  it('keep what an index of indexes reaches, and no more', async () => {
    const registry = immutableTags(new DirRegistry(tempDir()));
    const one = await pushImage(registry, 'a', undefined);
    const two = await pushImage(registry, 'a', undefined);
    const loose = await pushImage(registry, 'a', undefined);
    // A child that was never pushed, and an index that is named twice, are no obstacle.
    const inner = indexOf(one.manifest, content('{"never":"pushed"}', mediaTypes.imageManifest));
    await pushIndex(registry, undefined, inner);
    await pushIndex(registry, 'v1', indexOf(inner, two.manifest, inner));
    for (const { descriptor } of [inner, one.manifest, two.manifest]) {
      await expect(registry.deleteManifest('a', descriptor.digest)).rejects.toEqual(denied);
    }
    await expect(registry.deleteBlob('a', one.layer.descriptor.digest)).rejects.toEqual(denied);
    await registry.deleteManifest('a', loose.manifest.descriptor.digest);
    await registry.deleteBlob('a', loose.layer.descriptor.digest);
    await expect(registry.deleteManifest('a', loose.manifest.descriptor.digest)).rejects.toMatchObject({
      code: 'MANIFEST_UNKNOWN',
    });
  });

  it('are those that match', async () => {
    const registry = immutableTags(new DirRegistry(tempDir()), {
      match: (repository, tag) => repository === 'a' && tag.startsWith('v'),
    });
    await pushImage(registry, 'a', 'v1');
    await pushImage(registry, 'a', 'latest');
    const { manifest, layer } = await pushImage(registry, 'a', 'latest');
    await expect(pushImage(registry, 'a', 'v1')).rejects.toEqual(denied);
    await registry.deleteBlob('a', layer.descriptor.digest);
    await registry.deleteManifest('a', manifest.descriptor.digest);
    await pushImage(registry, 'b', 'v1');
    await pushImage(registry, 'b', 'v1');
    await registry.deleteTag('b', 'v1');
  });

  it('keep the media type of what they reach', async () => {
    const registry = immutableTags(new DirRegistry(tempDir()));
    const { manifest } = await pushImage(registry, 'a', 'v1');
    for (const tag of [undefined, 'v1', 'v2']) {
      await expect(registry.pushManifest('a', tag, manifest.bytes, mediaTypes.octetStream)).rejects.toEqual(denied);
    }
    expect(await registry.resolveTag('a', 'v1')).toEqual(manifest.descriptor);
    const loose = content('{"says":"nothing of its type"}');
    await registry.pushManifest('a', undefined, loose.bytes, mediaTypes.octetStream);
    await registry.pushManifest('a', undefined, loose.bytes, 'application/json');
  });

  it('are won by exactly one of many pushes at once', async () => {
    const store = new DirRegistry(tempDir());
    const registry = immutableTags(store);
    const images = await Promise.all(Array.from({ length: 12 }, () => pushImage(store, 'a', undefined)));
    const outcomes = await Promise.allSettled(
      images.map(({ manifest }) => registry.pushManifest('a', 'v1', manifest.bytes, mediaTypes.imageManifest)),
    );
    const won = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value.digest] : []));
    expect(won).toEqual([(await store.resolveTag('a', 'v1')).digest]);
    for (const outcome of outcomes) if (outcome.status === 'rejected') expect(outcome.reason).toEqual(denied);
  });

  it('stay when another filter gave them after this one had looked', async () => {
    const store = new DirRegistry(tempDir());
    const first = await pushImage(store, 'a', undefined);
    const { manifest } = await pushImage(store, 'a', undefined);
    const late = funcs({
      resolveTag: async (repository, tag) => await store.resolveTag(repository, tag),
      resolveManifest: async (repository, digest) => await store.resolveManifest(repository, digest),
      pushManifest: async (...push) => {
        await immutableTags(store).pushManifest('a', 'v1', first.manifest.bytes, mediaTypes.imageManifest);
        return await store.pushManifest(...push);
      },
    });
    await expect(immutableTags(late).pushManifest('a', 'v1', manifest.bytes, mediaTypes.imageManifest)).rejects.toEqual(
      denied,
    );
    expect(await store.resolveTag('a', 'v1')).toEqual(first.manifest.descriptor);
  });

  it('notice that another process pushed at the same moment', async () => {
    const store = new DirRegistry(tempDir());
    const other = await pushImage(store, 'a', undefined);
    const { manifest } = await pushImage(store, 'a', undefined);
    const raced = funcs({
      resolveTag: async (repository, tag) => await store.resolveTag(repository, tag),
      resolveManifest: async (repository, digest) => await store.resolveManifest(repository, digest),
      pushManifest: async (repository, tag, bytes, mediaType) => {
        const pushed = await store.pushManifest(repository, tag, bytes, mediaType);
        await store.pushManifest(repository, tag, other.manifest.bytes, mediaTypes.imageManifest);
        return pushed;
      },
    });
    await expect(
      immutableTags(raced).pushManifest('a', 'v1', manifest.bytes, mediaTypes.imageManifest),
    ).rejects.toMatchObject({ code: 'DENIED', message: expect.stringContaining(other.manifest.descriptor.digest) });
  });

  it('do not let a delete overtake the push that needs the blob', async () => {
    const store = new DirRegistry(tempDir());
    const registry = immutableTags(store);
    const { manifest, layer } = await pushImage(store, 'a', undefined);
    const outcomes = await Promise.allSettled([
      registry.pushManifest('a', 'v1', manifest.bytes, mediaTypes.imageManifest),
      registry.deleteBlob('a', layer.descriptor.digest),
    ]);
    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected']);
    expect((await store.resolveBlob('a', layer.descriptor.digest)).size).toBe(layer.bytes.byteLength);
  });

  it('do not take an outage for a tag that is free', async () => {
    const store = new DirRegistry(tempDir());
    const { manifest } = await pushImage(store, 'a', 'v1');
    const broken = funcs({
      resolveManifest: async () => await Promise.resolve(manifest.descriptor),
      resolveTag: async () => await Promise.reject(new Error('the disk is on fire')),
    });
    await expect(
      immutableTags(broken).pushManifest('a', 'v1', manifest.bytes, mediaTypes.imageManifest),
    ).rejects.toThrow('the disk is on fire');
  });
});
