import { describe, expect, it } from 'vitest';
import { readTar } from '../../src/tar/reader.ts';
import { compileTree } from '../../src/tree/compile.ts';
import { tarOf } from '../support/tar-members.ts';

describe('compileTree', () => {
  it('gives the tree and its image', () => {
    const { tree, image } = compileTree([{ entries: readTar(tarOf({ path: 'a', data: 'a' })) }, { entries: [] }]);
    expect(tree.layers).toBe(2);
    expect(image.readUInt32LE(1024)).toBe(0xe0f5e1e2);
    expect(image.readUInt16LE(1024 + 86)).toBe(2);
  });

  it('compiles 100 000 entries', () => {
    const [one] = readTar(tarOf({ path: 'a', data: 'a' }));
    const entries = Array.from({ length: 100_000 }, (_, i) => ({
      ...(one as NonNullable<typeof one>),
      path: `usr/share/doc/package-${i % 1000}/some/file-${i}` as never,
      headerOffset: i * 1024,
      dataOffset: i * 1024 + 512,
      extents: [{ fileOffset: 0, streamOffset: i * 1024 + 512, size: 1 }],
    }));
    const { image } = compileTree([{ entries, streamSize: 100_000 * 1024 }]);
    expect(image.length).toBeGreaterThan(100_000 * 64);
  });
});
