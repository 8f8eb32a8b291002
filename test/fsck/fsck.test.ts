import { execFileSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Digest } from '../../src/oci/digest.ts';
import { check, fileBytes, fill, situation, withLayer } from '../support/checked-node.ts';
import { flipBit } from '../support/flip-bit.ts';
import type { LabCompression } from '../support/image-lab.ts';

describe('fsck', () => {
  it('finds nothing on a node that is as it should be', async () => {
    const s = await situation();
    await withLayer(s, async (layer, image) => {
      await layer.read(0, 100_000);
      await image.treeFile();
    });
    expect(await check(s.node)).toMatchObject({ verdict: 'clean', text: '' });
    await fill(s);
    expect(await check(s.node, { repair: true })).toMatchObject({ verdict: 'clean', text: '' });
  });

  it('finds a flipped bit of a layer in use, and its readers get the right bytes after the repair', async () => {
    const s = await situation();
    await withLayer(s, async (layer) => {
      await layer.read(0, 200_000);
      flipBit(s.paths.data, 70_000);
      const seen = await check(s.node);
      expect(seen).toMatchObject({ verdict: 'left' });
      expect(seen.text).toMatch(/layer: 1 of \d+ spans have wrong bytes \(1\)/);
      const repaired = await check(s.node, { repair: true });
      expect(repaired.verdict).toBe('repaired');
      expect(await layer.read(0, 200_000)).toEqual(s.layer.tar.subarray(0, 200_000));
    });
    expect(await check(s.node)).toMatchObject({ verdict: 'clean' });
  });

  it.each<[string, LabCompression, boolean]>([
    ['with an index', 'none', true],
    ['with an index made here', 'gzip', false],
    ['that has no spans', 'zstd', false],
  ])('mends a complete layer %s in place, also for who reads its file himself', async (_, compression, indexed) => {
    const s = await situation({ compression, indexed });
    await fill(s);
    await withLayer(s, async (layer) => {
      const kernel = openSync(s.paths.data, 'r');
      flipBit(s.paths.data, 70_000);
      expect(layer.complete).toBe(true);
      const { verdict, text } = await check(s.node, { repair: true });
      expect(text).toMatch(/wrong bytes .*: fetched again/);
      expect(verdict).toBe('repaired');
      expect(layer.complete).toBe(true);
      const seen = Buffer.alloc(s.layer.tar.length);
      readSync(kernel, seen, 0, seen.length, 0);
      closeSync(kernel);
      expect(seen.equals(s.layer.tar)).toBe(true);
    });
    expect(await check(s.node)).toMatchObject({ verdict: 'clean' });
  });

  it('keeps what is right of a complete layer that cannot be fetched, and mends it once it can', async () => {
    const s = await situation();
    await fill(s);
    await withLayer(s, async (layer) => {
      const behave = s.lab.front.interfere(
        () => true,
        (_, response) => response.destroy(),
      );
      s.node.setLimits({ downloads: { perNode: 8, perImage: 8 }, readDeadlineMs: 300 });
      flipBit(s.paths.data, 70_000);
      const failed = await check(s.node, { repair: true });
      expect(failed).toMatchObject({ verdict: 'left' });
      expect(failed.text).toMatch(/taken out, and not fetched again: /);
      expect(layer.complete).toBe(false);
      // Somebody may read its file without a lock: nothing of it goes.
      expect(await layer.cache.evict(Uint32Array.of(0, 3))).toMatchObject({ evicted: 0 });
      behave();
      // Long enough for a registry that is left alone for a moment after failures.
      s.node.setLimits({ downloads: { perNode: 8, perImage: 8 }, readDeadlineMs: 30_000 });
      expect(await check(s.node)).toMatchObject({
        verdict: 'left',
        text: expect.stringMatching(/missing that were here/),
      });
      expect(await check(s.node, { repair: true })).toMatchObject({ verdict: 'repaired' });
      expect(fileBytes(s.paths, s.layer).equals(s.layer.tar)).toBe(true);
    });
    expect(await check(s.node)).toMatchObject({ verdict: 'clean' });
  });

  it('serves right bytes of a data file that was cut short while it was read', async () => {
    const s = await situation();
    await withLayer(s, async (layer) => {
      await layer.read(0, 500_000);
      truncateSync(s.paths.data, 100_000);
      expect(await layer.read(0, 500_000)).toEqual(s.layer.tar.subarray(0, 500_000));
      truncateSync(s.paths.data, 100_000);
      // What is decoded now is behind the end: nothing before it may become zeros.
      expect(await layer.read(590_000, 1000)).toEqual(s.layer.tar.subarray(590_000, 591_000));
      expect(await layer.read(0, 500_000)).toEqual(s.layer.tar.subarray(0, 500_000));
      truncateSync(s.paths.data, 100_000);
      expect((await check(s.node)).text).toMatch(/data file has 100000 bytes instead of/);
      expect(await check(s.node, { repair: true })).toMatchObject({ verdict: 'repaired' });
      expect(await layer.read(0, 500_000)).toEqual(s.layer.tar.subarray(0, 500_000));
    });
    expect(await check(s.node)).toMatchObject({ verdict: 'clean' });
  });

  it.each(['data', 'index'] as const)('removes a layer whose %s is gone, where nobody uses it', async (file) => {
    const s = await situation();
    await fill(s);
    rmSync(s.paths[file]);
    expect(await check(s.node)).toMatchObject({ verdict: 'left' });
    expect(existsSync(s.paths.dir)).toBe(true);
    expect(await check(s.node, { repair: true })).toMatchObject({ verdict: 'repaired' });
    expect(existsSync(s.paths.dir)).toBe(false);
    await withLayer(s, async (layer) => {
      expect(await layer.read(0, 1000)).toEqual(s.layer.tar.subarray(0, 1000));
    });
    expect(await check(s.node)).toMatchObject({ verdict: 'clean' });
  });

  it('leaves a layer in use whose index is damaged, and says so', async () => {
    const s = await situation();
    await withLayer(s, async (layer) => {
      await layer.read(0, 100_000);
      flipBit(s.paths.index, 700);
      const { verdict, text } = await check(s.node, { repair: true });
      expect(verdict).toBe('left');
      expect(text).toMatch(/index file .*damaged.*: it is in use/);
      expect(await layer.read(0, 300_000)).toEqual(s.layer.tar.subarray(0, 300_000));
    });
    expect(await check(s.node, { repair: true })).toMatchObject({ verdict: 'repaired' });
    await fill(s);
    expect(await check(s.node)).toMatchObject({ verdict: 'clean' });
  });

  it('refuses a bitmap of a newer release and touches nothing of it', async () => {
    const s = await situation();
    await fill(s);
    const present = join(s.paths.dir, 'present');
    const newer = readFileSync(present);
    newer.writeUInt32LE(2, 8);
    writeFileSync(present, newer);
    rmSync(s.paths.live);
    const { verdict, text } = await check(s.node, { repair: true });
    expect(verdict).toBe('left');
    expect(text).toMatch(/newer peel: upgrade peel/);
    await expect(s.node.openImage(s.pushed.reference)).rejects.toThrow(/newer peel/);
    expect(readFileSync(present).equals(newer)).toBe(true);
    newer.writeUInt32LE(1, 8);
    writeFileSync(present, newer);
    expect(await check(s.node)).toMatchObject({ verdict: 'clean' });
  });

  it('writes a damaged bitmap anew', async () => {
    const s = await situation();
    await withLayer(s, async (layer) => {
      await layer.read(0, 300_000);
      await layer.cache.sync();
      flipBit(join(s.paths.dir, 'present'), 90);
      expect((await check(s.node)).text).toMatch(/bitmap is damaged/);
      expect(await check(s.node, { repair: true })).toMatchObject({ verdict: 'repaired' });
      expect(layer.cache.presentSpans).toBeGreaterThan(3);
    });
    expect(await check(s.node)).toMatchObject({ verdict: 'clean' });
  });

  it('removes content, compressed layers and trees that are not what they were', async () => {
    const s = await situation();
    await withLayer(s, async (_, image) => {
      const tree = await image.treeFile();
      flipBit(tree, 1500);
    });
    const content = join(s.node.paths.root, 'content', 'sha256', s.pushed.digest.slice(7));
    flipBit(content, 10);
    const kept = join(s.node.paths.root, 'compressed', 'sha256', s.layer.descriptor.digest.slice(7));
    execFileSync('mkdir', ['-p', join(kept, '..')]);
    writeFileSync(kept, s.layer.blob.subarray(1));
    const seen = await check(s.node);
    expect(seen.findings.map(({ place }) => place).sort()).toEqual(['compressed', 'content', 'tree']);
    expect(await check(s.node, { repair: true })).toMatchObject({ verdict: 'repaired' });
    expect(existsSync(content) || existsSync(kept)).toBe(false);
    await withLayer(s, async (_, image) => void (await image.treeFile()));
    expect(await check(s.node)).toMatchObject({ verdict: 'clean' });
  });

  it('checks the rest of what is there when one thing of it cannot be read', async () => {
    const s = await situation();
    await withLayer(s, async (_, image) => flipBit(await image.treeFile(), 1500));
    const { root } = s.node.paths;
    flipBit(join(root, 'content', 'sha256', s.pushed.digest.slice(7)), 10);
    for (const name of ['0'.repeat(64), 'f'.repeat(64)]) {
      mkdirSync(join(root, 'content', 'sha256', name));
      mkdirSync(join(root, 'trees', 'sha256', `${name}.erofs`));
      writeFileSync(join(root, 'trees', 'sha256', `${name}.erofs.sum`), '');
    }
    const { text } = await check(s.node, { repair: true });
    expect(text.match(/(?:content|tree): cannot be checked: EISDIR/g)).toHaveLength(4);
    expect(text).toMatch(/content: its bytes are not those of its digest: removed/);
    expect(text).toMatch(/tree: its bytes are not those that were written: removed/);
  });

  it('says once that an index is not of the layer', async () => {
    const s = await situation({ indexed: false });
    await withLayer(s, async (layer) => {
      const row = s.node.state.layers.get(layer.descriptor.digest);
      if (row !== undefined)
        s.node.state.layers.put({ ...row, diffId: layer.descriptor.digest.replace(/.$/, 'e') as Digest });
      const { findings, text } = await check(s.node, { repair: true });
      expect(text).toMatch(/its index describes the stream .*: it is in use, and is made anew/);
      expect(findings).toHaveLength(1);
    });
  });

  it('checks only what is named', async () => {
    const s = await situation();
    await fill(s);
    flipBit(s.paths.data, 70_000);
    const digest = s.layer.descriptor.digest;
    for (const names of [[digest], [digest.slice(7, 19)], [s.pushed.reference], [s.pushed.byDigest]])
      expect((await check(s.node, { names })).findings).toMatchObject([{ place: 'layer', subject: digest }]);
    const requests = s.lab.front.requests.length;
    await expect(check(s.node, { names: [`${s.lab.front.host}/none:1`] })).rejects.toThrow(/none/);
    expect(s.lab.front.requests.length).toBe(requests);
  });
});
