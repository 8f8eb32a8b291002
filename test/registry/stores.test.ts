import { describe, expect, it } from 'vitest';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { DirRegistry } from '../../src/registry/dir-registry.ts';
import type { Registry } from '../../src/registry/interface.ts';
import { LayoutRegistry } from '../../src/registry/layout-registry.ts';
import { MemoryRegistry } from '../../src/registry/memory-registry.ts';
import { content, manifestOf, push } from '../support/registry-content.ts';
import { tempDir } from '../support/tmp.ts';

describe('a store', () => {
  it.each<[string, () => Registry]>([
    ['MemoryRegistry', () => new MemoryRegistry()],
    ['DirRegistry', () => new DirRegistry(tempDir())],
    ['LayoutRegistry', () => new LayoutRegistry(tempDir())],
  ])('%s takes a manifest without its blobs when it is told that they may be missing', async (_name, make) => {
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
  });
});
