// Debian's fsck.erofs reads the 4096-byte form of every fixture's tree without a complaint.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readTar } from '../../src/tar/reader.ts';
import { compileTree } from '../../src/tree/compile.ts';
import { type Fixture, makeFixture } from '../support/fixtures.ts';
import { canMount } from '../support/peel-node.ts';
import { run } from '../support/run.ts';
import { tempDir } from '../support/tmp.ts';

// Making the fixtures takes root: owners, devices, security.capability.
describe.skipIf(!canMount)('fsck.erofs', () => {
  const fixtures: [Fixture, ...string[]][] = [['zoo'], ['sparse'], ['huge'], ['bulk', '3'], ['wide', '50000']];
  it.each(fixtures)('is clean on the tree of %s', async (fixture, ...args) => {
    const dir = tempDir();
    const tars = await makeFixture(fixture, join(dir, 'layers'), ...args);
    const layers = await Promise.all(
      tars.map(async (tar) => {
        const bytes = await readFile(tar);
        return { entries: readTar(bytes), streamSize: bytes.length };
      }),
    );
    const { image } = compileTree(layers, { blockSize: 4096, data: 'holes' });
    const file = join(dir, 'tree.erofs');
    await writeFile(file, image);
    // fsck.erofs 1.5 exits with 0 after some errors, so that only what it says counts.
    const complaints = async () => {
      const { out, err } = await run('fsck.erofs', ['-d3', file]);
      return (out + err).split('\n').filter((line) => !line.startsWith('<D>') && line !== '');
    };
    expect(await complaints()).toEqual(['<I> erofs: No errors found']);
    const root = image.readUInt16LE(1024 + 14) << 5;
    await writeFile(file, Buffer.from(image).fill(0xff, root, root + 32));
    expect((await complaints()).join()).toContain('<E>');
  });
});
