import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import { expect, it, onTestFinished } from 'vitest';
import type { Digest } from '../../src/oci/digest.ts';
import { openState } from '../../src/state/state.ts';
import { tempDir } from '../support/tmp.ts';

it('kept blobs are listed without those that are damaged, which are named', () => {
  const root = tempDir();
  const state = openState(root);
  onTestFinished(() => state.close());
  const { connections } = state;
  connections.put({ id: 'c', owner: 'layers', boot: 'b', tree: undefined, flags: 1, nextNode: 0 });
  const blob = { place: 1, mode: 'plain', backingId: 0, layer: `sha256:${'a'.repeat(64)}` as Digest } as const;
  for (const node of [2, 3]) connections.addBlob('c', { ...blob, node, name: `b${node}` });
  const raw = new Sqlite(join(root, 'peel.db'));
  raw.exec(`UPDATE blobs SET layer = 'nonsense' WHERE node = 2`);
  raw.close();
  expect(connections.blobs('c')).toEqual([{ ...blob, node: 3, name: 'b3' }]);
  expect(connections.list()).toMatchObject([{ nextNode: 4 }]);
  expect(state.integrity.damagedRows()).toMatchObject([{ table: 'blobs', key: 'c 2', mayGo: false }]);
});
