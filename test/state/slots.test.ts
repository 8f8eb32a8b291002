import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseDigest } from '../../src/oci/digest.ts';
import type { State } from '../../src/state/state.ts';
import { openState } from '../../src/state/state.ts';

const a = parseDigest(`sha256:${'a'.repeat(64)}`);
const b = parseDigest(`sha256:${'b'.repeat(64)}`);

let root: string;
let state: State;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'peel-state-'));
  state = openState(root);
});
afterEach(() => {
  state.close();
  rmSync(root, { recursive: true });
});

describe('SlotTable', () => {
  it('gives a tree one slot, and no slot twice', () => {
    const { slots } = state;
    expect(slots.claim({ tree: 't1', layer: a, reason: 'one' })).toBe(1);
    expect(slots.claim({ tree: 't2', layer: a, reason: 'two' })).toBe(2);
    slots.setError(1, 'broken');
    slots.setDirect(1, true);
    expect(slots.get(1)).toMatchObject({ tree: 't1', layer: a, reason: 'one', error: 'broken', direct: true });
    expect(slots.claim({ tree: 't1', layer: a, reason: 'again' })).toBe(1);
    expect(slots.get(1)).toMatchObject({ reason: 'again', error: undefined });
    expect(slots.byLayer(a).map(({ slot }) => slot)).toEqual([1, 2]);
    expect([slots.delete(1), slots.delete(2), slots.delete(2)]).toEqual([true, true, false]);
    expect(slots.get(1)).toBeUndefined();
    expect(slots.claim({ tree: 't1', layer: a, reason: 'new' })).toBeGreaterThan(2);
  });

  it('knows which of them snapshots show', () => {
    const { slots } = state;
    for (const tree of ['t1', 't2']) slots.claim({ tree, layer: a, reason: '' });
    const raw = new Sqlite(join(root, 'peel.db'));
    const insert = raw.prepare(
      "INSERT INTO snapshots (key, kind, slot, created_at, updated_at) VALUES (?, 'committed', ?, 0, 0)",
    );
    for (const key of ['x', 'y']) insert.run(key, 2);
    insert.run('z', null);
    raw.close();
    expect(slots.shown()).toEqual([2]);
    expect([slots.isShown(1), slots.isShown(2)]).toEqual([false, true]);
  });
});

describe('LayerSourceTable', () => {
  it('has the references used last first, and forgets the oldest of many', () => {
    const { layerSources } = state;
    for (let i = 1; i <= 10; i += 1) layerSources.put([a, b], `r${i}`, i);
    layerSources.put([a], 'r3', 11);
    expect(layerSources.of(a)).toEqual(['r3', 'r10', 'r9', 'r8', 'r7', 'r6', 'r5', 'r4']);
    expect(layerSources.of(b)).toHaveLength(8);
    layerSources.delete(a);
    expect(layerSources.of(a)).toEqual([]);
    expect(layerSources.of(b)).toHaveLength(8);
  });
});
