// Whatever the layers: what overlayfs shows of their trees is the merged tree, or a layer is refused for a good reason.
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TreeError } from '../../src/tree/errors.ts';
import { layerTree } from '../../src/tree/layer-tree.ts';
import { type LayerEntries, mergeLayers } from '../../src/tree/merge.ts';
import type { Tree } from '../../src/tree/tree.ts';
import { rounds } from '../support/fixtures.ts';
import { foldedLines, mergedLines } from '../support/overlay-fold.ts';
import { type Short, shortLayer } from '../support/short-layers.ts';

const name = fc.constantFrom('a', 'b', 'c');
const path = fc.array(name, { minLength: 1, maxLength: 3 }).map((parts) => parts.join('/'));
const folder = fc.oneof(
  fc.constant(''),
  path.map((text) => `${text}/`),
);
const target = fc.oneof(
  path,
  path.map((text) => `/${text}`),
  path.map((text) => `../${text}`),
);
const look = fc.record({ mode: fc.constantFrom(0o700, 0o1777), uid: fc.nat(3), mtime: fc.nat(9) });

const entry: fc.Arbitrary<Short> = fc.oneof(
  { weight: 5, arbitrary: fc.tuple(path, look).map(([p, l]) => ({ path: `${p}/`, type: 'dir' as const, ...l })) },
  { weight: 4, arbitrary: fc.tuple(path, look).map(([p, l]) => ({ path: p, data: p, ...l })) },
  { weight: 2, arbitrary: fc.tuple(path, target).map(([p, link]) => `${p} -> ${link}`) },
  { weight: 1, arbitrary: fc.tuple(path, path).map(([p, link]) => `${p} = ${link}`) },
  { weight: 2, arbitrary: fc.tuple(folder, name).map(([f, n]) => `${f}.wh.${n}`) },
  { weight: 1, arbitrary: folder.map((f) => `${f}.wh..wh..opq`) },
  { weight: 1, arbitrary: fc.constant<Short>({ path: './', type: 'dir', mode: 0o711 }) },
);

/** An entry behind its parents, as most tars have it. */
const withParents = fc.tuple(entry, fc.boolean()).map(([one, parents]): Short[] => {
  const text = typeof one === 'string' ? (one.split(' ')[0] as string) : String(one.path);
  const parts = text.split('/').filter((part) => part !== '' && part !== '.');
  return parents ? [...parts.slice(0, -1).map((_, i) => `${parts.slice(0, i + 1).join('/')}/`), one] : [one];
});
const layer = fc.array(withParents, { maxLength: 6 }).map((groups) => groups.flat());

describe('trees of layers', () => {
  it('stack to the merged tree', () => {
    const seen = { alone: 0, over: 0, refused: 0, whole: 0 };
    fc.assert(
      fc.property(fc.array(layer, { minLength: 1, maxLength: 4 }), fc.boolean(), (stack, userXattr) => {
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
