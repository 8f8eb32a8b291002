import { randomBytes } from 'node:crypto';
import { existsSync, utimesSync } from 'node:fs';
import { describe, expect, it, onTestFinished } from 'vitest';
import { LayerTreeFiles } from '../../src/image/layer-tree-files.ts';
import { tidyTrees } from '../../src/image/tidy-trees.ts';
import { touchTreeFile } from '../../src/image/tree-file.ts';
import { fileIdentity } from '../../src/layer/file-identity.ts';
import type { Digest } from '../../src/oci/digest.ts';
import { openState } from '../../src/state/state.ts';
import { tempDir } from '../support/tmp.ts';

const hourAgo = new Date(Date.now() - 3_600_000);
const layer = `sha256:${'a'.repeat(64)}` as Digest;

function world() {
  const root = tempDir();
  const state = openState(root);
  onTestFinished(() => state.close());
  const files = new LayerTreeFiles(root);
  /** One that was written an hour ago. */
  const tree = async (): Promise<string> => {
    const key = randomBytes(32).toString('hex');
    await files.write(key, randomBytes(600), { root: null });
    const path = files.path(key);
    for (const file of [path, `${path}.sum`, path.replace(/erofs$/, 'json')]) utimesSync(file, hourAgo, hourAgo);
    return key;
  };
  const tidy = async () => await tidyTrees({ root, state, usedBefore: Date.now() - 60_000 });
  const has = (key: string) => existsSync(files.path(key));
  return { root, state, files, tree, tidy, has };
}

describe('tidyTrees', () => {
  it('removes what nobody uses, with all that belongs to it', async () => {
    const { files, tree, tidy, has } = world();
    const keys = [await tree(), await tree()];
    expect(await tidy()).toBe(2);
    for (const key of keys) {
      expect(has(key)).toBe(false);
      expect(existsSync(`${files.path(key)}.sum`)).toBe(false);
      expect(await files.find(key)).toBeUndefined();
    }
    expect(await tidy()).toBe(0);
  });

  it('leaves what a slot shows, what a kept connection serves, and what somebody has just found or written', async () => {
    const { state, files, tree, tidy, has } = world();
    const [shown, served, found, fresh] = [await tree(), await tree(), await tree(), 'f'.repeat(64)];
    await files.write(fresh, randomBytes(600), { root: null });
    state.slots.claim({ tree: shown, layer, reason: 'test' });
    const identity = await fileIdentity(files.path(served));
    state.connections.put({ id: '1', owner: 'slot:1', boot: 'b', tree: identity, flags: 0, nextNode: 0 });
    await touchTreeFile(files.path(found));
    // Being found makes no other file of it.
    const before = await fileIdentity(files.path(served));
    await touchTreeFile(files.path(served));
    expect(await fileIdentity(files.path(served))).toBe(before);
    utimesSync(`${files.path(served)}.sum`, hourAgo, hourAgo);
    expect(await tidy()).toBe(0);
    expect([shown, served, found, fresh].map(has)).toEqual([true, true, true, true]);
    state.slots.delete(1);
    state.connections.delete('1');
    expect(await tidy()).toBe(2);
  });

  it('leaves the record of a layer that has no tree of its own', async () => {
    const { files, tidy } = world();
    const key = 'e'.repeat(64);
    await files.write('d'.repeat(64), randomBytes(600), { root: null });
    await files.writeRecord(key, { below: 'it depends on what is below' });
    utimesSync(files.path(key).replace(/erofs$/, 'json'), hourAgo, hourAgo);
    expect(await tidy()).toBe(0);
    expect(await files.find(key)).toMatchObject({ below: expect.any(String) });
  });
});
