// Whatever the layer: its entries from its tree do to any layers what its own do, or it has no such tree.
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { archiveTree } from '../../src/tree/archive-tree.ts';
import { readErofs } from '../../src/tree/erofs-reader.ts';
import { writeErofs } from '../../src/tree/erofs-writer.ts';
import { TreeError } from '../../src/tree/errors.ts';
import { layerTree } from '../../src/tree/layer-tree.ts';
import { type LayerEntries, mergeLayers } from '../../src/tree/merge.ts';
import type { Tree } from '../../src/tree/tree.ts';
import { treeEntries } from '../../src/tree/tree-entries.ts';
import { UnpackError } from '../../src/unpack/errors.ts';
import { type ApplyOptions, appliedTree } from '../support/applied-layers.ts';
import { rounds } from '../support/fixtures.ts';
import { mergedLines } from '../support/overlay-fold.ts';
import { briefLayer, linkedLayer, randomLayer, tidyLayer } from '../support/random-layers.ts';
import { shortLayer } from '../support/short-layers.ts';

describe('trees of archives', () => {
  it('give entries that do what those of the archive do', () => {
    const seen = { same: 0, refused: 0, implied: 0, hiding: 0, over: 0, linked: 0, failing: 0 };
    const belowLayer = fc.oneof({ weight: 3, arbitrary: linkedLayer }, { weight: 1, arbitrary: randomLayer });
    const theLayer = fc.oneof({ weight: 2, arbitrary: tidyLayer }, { weight: 3, arbitrary: briefLayer });
    fc.assert(
      fc.property(fc.array(belowLayer, { maxLength: 2 }), theLayer, fc.option(randomLayer), (lower, short, upper) => {
        const layers = [...lower, short, ...(upper === null ? [] : [upper])].map(shortLayer);
        const at = lower.length;
        const one = layers[at] as LayerEntries;
        const again = attempt(() => throughTree(one));
        if (typeof again === 'string') {
          seen.refused++;
          return;
        }
        const changed = layers.with(at, again);
        const below = layers.slice(0, at);
        const outcomes = (all: readonly LayerEntries[], layer: LayerEntries) => [
          shown(() => mergeLayers(all)),
          shown(() => layerTree(layer, { below: 'unknown' })),
          shown(() => layerTree(layer, { below: 'nothing', userXattr: true })),
          shown(() => layerTree(layer, { below: mergeLayers(below) })),
          unpacked(all, { form: 'plain' }),
          unpacked([layer], { form: 'overlay' }),
          unpacked([layer], { form: 'overlay-user' }),
        ];
        const expected = outcomes(layers, one);
        expect(outcomes(changed, again)).toEqual(expected);
        seen.same++;
        if (one.entries.some(({ path }) => path.includes('.wh.'))) seen.hiding++;
        if (one.entries.some(({ type }) => type === 'hardlink')) seen.linked++;
        if (expected.includes('ERR_TREE_BELOW')) seen.implied++;
        if (at > 0 && typeof expected[3] !== 'string') seen.over++;
        if (typeof expected[0] === 'string') seen.failing++;
      }),
      { numRuns: rounds(10_000, 400, 0.06) },
    );
    for (const [what, times] of Object.entries(seen)) expect(times, what).toBeGreaterThan(2);
  });
});

function throughTree({ entries, streamSize }: LayerEntries): LayerEntries {
  const tree = archiveTree(entries, { streamSize: streamSize as number });
  return { entries: treeEntries(readErofs(writeErofs(tree))), streamSize };
}

/** All there is to see of a tree, or the error. */
function shown(work: () => Tree): unknown {
  return attempt(() => {
    const tree = work();
    const { mode, uid, gid, mtime, mtimeNs, xattrs } = tree.root;
    return [...mergedLines(tree), { mode, uid, gid, mtime, mtimeNs, xattrs: [...xattrs] }];
  });
}

function unpacked(layers: readonly LayerEntries[], options: ApplyOptions): unknown {
  return attempt(() => {
    const { tree, implied, hiding } = appliedTree(layers, options);
    return { tree: shown(() => tree), implied: implied.toSorted(), hiding: hiding.toSorted() };
  });
}

function attempt<T>(work: () => T): T | string {
  try {
    return work();
  } catch (error) {
    if (error instanceof UnpackError || error instanceof TreeError) return error.code;
    throw error;
  }
}
