// Trees of layers on disk, from dist/: they are compiled in threads.
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { buildLayerIndex } from '../../src/index/builder.ts';
import { writeNodeIndex } from '../../src/index/node-index-writer.ts';
import type { LayerRef, LayerTreeRequest } from '../../src/image/layer-trees.ts';
import { writeErofs } from '../../src/tree/erofs-writer.ts';
import { layerTree } from '../../src/tree/layer-tree.ts';
import { mergeLayers } from '../../src/tree/merge.ts';
import { chunked, sha256 } from '../index/layers.ts';
import { runOk } from '../support/run.ts';
import { describeShort, type Short, shortLayer } from '../support/short-layers.ts';
import { tarOf } from '../support/tar-members.ts';
import { tempDir } from '../support/tmp.ts';

const face = new URL('../../dist/image/layer-trees.js', import.meta.url).href;
const { LayerTrees } = (await import(face)) as typeof import('../../src/image/layer-trees.ts');

interface Lab {
  readonly trees: InstanceType<typeof LayerTrees>;
  /** The same state directory, as another process has it. */
  readonly again: InstanceType<typeof LayerTrees>;
  readonly root: string;
  readonly layer: (...entries: Short[]) => Promise<LayerRef>;
  readonly files: () => Promise<string[]>;
}

function lab(): Lab {
  const root = tempDir();
  const indexes = tempDir();
  const [trees, again] = [new LayerTrees(root), new LayerTrees(root)];
  onTestFinished(async () => {
    await trees.close();
    await again.close();
  });
  const layer = async (...entries: Short[]): Promise<LayerRef> => {
    const tar = tarOf(...entries.map(describeShort));
    const digest = sha256(tar);
    const indexPath = join(indexes, digest.replace(':', '-'));
    const index = await buildLayerIndex(chunked(tar));
    const fingerprint = await writeNodeIndex(indexPath, index, { format: 'node', source: 'test' });
    return { digest, fingerprint, indexPath, streamSize: tar.length };
  };
  const files = async () => await readdir(join(root, 'trees', 'sha256')).catch(() => []);
  return { trees, again, root, layer, files };
}

const request = (layer: LayerRef, more: Partial<LayerTreeRequest> = {}): LayerTreeRequest => {
  return { layer, below: undefined, base: false, userXattr: false, ...more };
};

const refusal = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => 'accepted',
    (error: unknown) =>
      error instanceof Error && error.name === 'ImageError' ? error : Promise.reject(error as Error),
  );

describe('LayerTrees', () => {
  it('compiles a layer once, and knows it later without its index', async () => {
    const { trees, again, layer } = lab();
    const entries: Short[] = [{ path: './', type: 'dir', mode: 0o711, uid: 4, gid: 5 }, 'd/', 'd/f', 'd/.wh.x'];
    const one = await layer(...entries);
    const tree = await trees.compiled(request(one));
    expect(tree.root).toEqual({ mode: 0o711, uid: 4, gid: 5 });
    expect(basename(tree.path)).toBe(`${tree.key}.erofs`);
    const image = writeErofs(layerTree(shortLayer(entries), { below: 'unknown' }));
    expect((await readFile(tree.path)).equals(image)).toBe(true);

    await rm(one.indexPath);
    expect(await trees.compiled(request(one))).toEqual(tree);
    expect(await again.compiled(request(one))).toEqual(tree);
  });

  it('says when a layer does not describe its root', async () => {
    const { trees, layer } = lab();
    expect((await trees.compiled(request(await layer('a')))).root).toBeUndefined();
  });

  it('tells trees apart by place, marks, layer and index', async () => {
    const { trees, layer } = lab();
    const one = await layer('d/', 'd/.wh.x');
    const other = await layer('d/', 'd/.wh.y');
    const keys = [
      await trees.compiled(request(one)),
      await trees.compiled(request(one, { base: true, below: [] })),
      await trees.compiled(request(one, { userXattr: true })),
      await trees.compiled(request(other)),
    ].map(({ key }) => key);
    expect(new Set(keys).size).toBe(4);
    expect((await trees.compiled(request(one, { below: [other] }))).key).toBe(keys[0]);
    const reindexed = { ...one, fingerprint: new Uint8Array(32) };
    expect(await refusal(trees.compiled(request(reindexed)))).toMatchObject({
      code: 'ERR_IMAGE_TREE',
      message: expect.stringContaining('was replaced by another one') as string,
    });
  });

  it('looks at the layers below where the layer leads through them, once', async () => {
    const { trees, again, layer } = lab();
    const lower = await layer('usr/', 'usr/lib/', 'lib -> usr/lib');
    const plain = await layer('lib/');
    const upper = await layer('lib/x');
    const tree = await trees.compiled(request(upper, { below: [lower] }));
    const below = mergeLayers([shortLayer(['usr/', 'usr/lib/', 'lib -> usr/lib'])]);
    const image = writeErofs(layerTree(shortLayer(['lib/x']), { below }));
    expect((await readFile(tree.path)).equals(image)).toBe(true);
    const overPlain = await trees.compiled(request(upper, { below: [plain] }));
    expect(overPlain.key).not.toBe(tree.key);
    expect((await readFile(overPlain.path)).equals(image)).toBe(false);

    for (const { indexPath } of [lower, plain, upper]) await rm(indexPath);
    expect(await again.compiled(request(upper, { below: [lower] }))).toEqual(tree);
    expect(await again.compiled(request(upper, { below: [plain] }))).toEqual(overPlain);
  });

  it('refuses with the reason what has no tree of its own', async () => {
    const { trees, layer, files } = lab();
    const lower = await layer('a');
    const upper = await layer('lib/x');
    const refused = (ref: LayerRef, below: LayerRef[] | undefined) => refusal(trees.compiled(request(ref, { below })));
    const needsBelow = {
      code: 'ERR_IMAGE_LAYER_TREE',
      message: `layer ${upper.digest} has no tree of its own: entry lib/x of the layer has a parent directory that is not in the layer`,
    };
    expect(await refused(upper, undefined)).toMatchObject(needsBelow);
    expect(await files()).toEqual([]);
    await trees.compiled(request(upper, { below: [lower] }));
    expect(await refused(upper, undefined)).toMatchObject(needsBelow);

    const link = await layer('b = a');
    expect(await refused(link, [lower])).toMatchObject({ code: 'ERR_IMAGE_LAYER_TREE' });
    expect(await refused(link, undefined)).toMatchObject({ code: 'ERR_IMAGE_LAYER_TREE' });
    expect(await refused(await layer({ path: 'w', type: 'char' }), undefined)).toMatchObject({
      code: 'ERR_IMAGE_LAYER_TREE',
    });
  });

  it('says what is wrong with a layer, its index or the disk', async () => {
    const { trees, layer, root, files } = lab();
    expect(await refusal(trees.compiled(request(await layer('a/../b'))))).toMatchObject({
      code: 'ERR_IMAGE_TREE',
      cause: { code: 'ERR_TREE_PATH' },
    });
    const one = await layer('a');
    const missing = { ...one, indexPath: `${one.indexPath}-gone` };
    expect(await refusal(trees.compiled(request(missing)))).toMatchObject({
      code: 'ERR_IMAGE_TREE',
      cause: { code: 'ENOENT' },
    });
    expect(await files()).toEqual([]);
    await writeFile(join(root, 'trees'), 'a file in the way');
    expect(await refusal(trees.compiled(request(one)))).toMatchObject({
      code: 'ERR_IMAGE_TREE',
      cause: { code: 'ENOTDIR' },
    });
    await rm(join(root, 'trees'));
    expect((await trees.compiled(request(one))).root).toBeUndefined();
  });

  it('removes all that belongs to a tree, and makes it again', async () => {
    const { trees, layer, files } = lab();
    const lower = await layer('a');
    const made = [
      await trees.compiled(request(lower, { base: true, below: [] })),
      await trees.compiled(request(await layer('lib/x'), { below: [lower] })),
    ];
    // Image, checksum and record of each, and the entries that others go by.
    expect(await files()).toHaveLength(7);
    await trees.remove(made.map(({ key }) => key));
    await trees.remove(['0'.repeat(64)]);
    expect(await files()).toEqual([]);
    expect(await trees.compiled(request(lower, { base: true, below: [] }))).toEqual(made[0]);
  });

  it.each(['', '{"root":{"mode":-1}}', '{}', 'null'])('makes a tree again whose record says %j', async (text) => {
    const { trees, layer } = lab();
    const one = await layer({ path: './', type: 'dir' }, 'a');
    const tree = await trees.compiled(request(one));
    await writeFile(tree.path.replace('.erofs', '.json'), text);
    expect(await trees.compiled(request(one))).toEqual(tree);
    await rm(tree.path);
    expect(await trees.compiled(request(one))).toEqual(tree);
    expect((await readFile(tree.path)).length).toBeGreaterThan(0);
  });

  it('gives many callers at once the same trees', async () => {
    const { trees, again, layer, files } = lab();
    const layers = await Promise.all([1, 2, 3, 4, 5].map((n) => layer('d/', `d/${n}`)));
    const calls = [trees, again, trees].flatMap((some) => layers.map((one) => some.compiled(request(one))));
    const keys = (await Promise.all(calls)).map(({ key }) => key);
    expect(new Set(keys).size).toBe(5);
    expect(await files()).toHaveLength(15);
  });

  it('stops compiling when the last caller goes', async () => {
    const { trees, layer, files } = lab();
    const many = await layer('d/', ...Array.from({ length: 8000 }, (_, i) => `d/${i}`));
    const leaving = new AbortController();
    const left = trees.compiled(request(many), { signal: leaving.signal });
    const stays = trees.compiled(request(many));
    leaving.abort(new Error('changed my mind'));
    await expect(left).rejects.toThrow('changed my mind');
    const tree = await stays;

    await trees.remove([tree.key]);
    const last = new AbortController();
    const gone = trees.compiled(request(many), { signal: last.signal });
    setTimeout(() => last.abort(new Error('enough')), 5);
    await expect(gone).rejects.toThrow('enough');
    expect(await files()).toEqual([]);
    await expect(trees.compiled(request(many), { signal: AbortSignal.abort(new Error('late')) })).rejects.toThrow(
      'late',
    );
    expect(await trees.compiled(request(many))).toEqual(tree);
  });

  it('does not keep a process from ending', async () => {
    const { root, layer } = lab();
    const { digest, fingerprint, indexPath, streamSize } = await layer('a');
    const one = { digest, fingerprint: [...fingerprint], indexPath, streamSize };
    const script = `
      import { LayerTrees } from '${face}';
      const one = ${JSON.stringify(one)};
      const layer = { ...one, fingerprint: Uint8Array.from(one.fingerprint) };
      await new LayerTrees('${root}').compiled({ layer, below: undefined, base: false, userXattr: false });
      setTimeout(() => process.exit(7), 4000).unref();
      process.stdout.write('done');`;
    expect(await runOk(process.execPath, ['--input-type=module', '-e', script])).toBe('done');
  });
});
