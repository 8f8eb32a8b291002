// Whatever the layers: what overlayfs shows of their trees is the merged tree, or a layer is refused for a good reason.
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TreeError } from '../../src/tree/errors.ts';
import { layerTree } from '../../src/tree/layer-tree.ts';
import { type LayerEntries, mergeLayers } from '../../src/tree/merge.ts';
import type { Tree } from '../../src/tree/tree.ts';
import { rounds } from '../support/fixtures.ts';
import { foldedLines, mergedLines } from '../support/overlay-fold.ts';
import { randomLayer } from '../support/random-layers.ts';
import { shortLayer } from '../support/short-layers.ts';

describe('trees of layers', () => {
  it('stack to the merged tree', () => {
    const seen = { alone: 0, over: 0, refused: 0, whole: 0 };
    fc.assert(
      fc.property(fc.array(randomLayer, { minLength: 1, maxLength: 4 }), fc.boolean(), (stack, userXattr) => {
        const layers = stack.map(shortLayer);
        const trees: Tree[] = [];
        const over: Tree[] = [];
        for (const [i, one] of layers.entries()) {
          const merge = attempt(() => mergeLayers(layers.slice(0, i + 1)));
          const made = attempt(() => treeOver(layers.slice(0, i), one, userXattr, seen));
          if (typeof made === 'string') {
            seen.refused++;
            if (made !== 'ERR_TREE_LOWER_LINK') expect(made).toBe(merge);
            break;
          }
          expect(merge).not.toBeTypeOf('string');
          trees.push(made);
          over.push(layerTree(one, { below: mergeLayers(layers.slice(0, i)), userXattr }));
        }
        const expected = mergedLines(mergeLayers(layers.slice(0, trees.length)));
        if (trees.length === 0) return;
        expect(foldedLines(trees, { userXattr })).toEqual(expected);
        expect(foldedLines(over, { userXattr })).toEqual(expected);
        if (trees.length > 1) seen.whole++;
      }),
      { numRuns: rounds(1000, 300, 0.3) },
    );
    for (const [what, times] of Object.entries(seen)) expect(times, what).toBeGreaterThan(20);
  });
});

/** As a node makes it: without looking at the layers below where that will do. */
function treeOver(
  below: readonly LayerEntries[],
  one: LayerEntries,
  userXattr: boolean,
  seen: { alone: number; over: number },
): Tree {
  if (below.length === 0) return layerTree(one, { below: 'nothing', userXattr });
  try {
    const tree = layerTree(one, { below: 'unknown', userXattr });
    seen.alone++;
    return tree;
  } catch (error) {
    if (!(error instanceof TreeError) || error.code !== 'ERR_TREE_BELOW') throw error;
  }
  const tree = layerTree(one, { below: mergeLayers(below), userXattr });
  seen.over++;
  return tree;
}

function attempt<T>(work: () => T): T | string {
  try {
    return work();
  } catch (error) {
    if (error instanceof TreeError) return error.code;
    throw error;
  }
}
