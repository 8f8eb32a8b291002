// Whatever the layers, and in whatever portions they come: unpacked, they are what the trees of the same entries are.
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TreeError } from '../../src/tree/errors.ts';
import { layerTree } from '../../src/tree/layer-tree.ts';
import { mergeLayers } from '../../src/tree/merge.ts';
import type { Tree } from '../../src/tree/tree.ts';
import { walk } from '../../src/tree/walk.ts';
import { UnpackError } from '../../src/unpack/errors.ts';
import { appliedTree } from '../support/applied-layers.ts';
import { rounds } from '../support/fixtures.ts';
import { foldedLines, mergedLines } from '../support/overlay-fold.ts';
import { randomLayer } from '../support/random-layers.ts';
import { settle } from '../support/settled-tree.ts';
import { shortLayer } from '../support/short-layers.ts';

const portions = fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 4 });

describe('unpacked layers', () => {
  it('in one directory are the merged tree', () => {
    const seen = { refused: 0, several: 0, implied: 0 };
    fc.assert(
      fc.property(fc.array(randomLayer, { minLength: 1, maxLength: 4 }), portions, (stack, sizes) => {
        const layers = stack.map(shortLayer);
        const expected = attempt(() => mergeLayers(layers));
        const made = attempt(() => appliedTree(layers, { form: 'plain', portions: sizes, overlayMarks: 'kept' }));
        if (typeof expected === 'string' || typeof made === 'string') {
          expect(made).toBe('ERR_UNPACK_ENTRY');
          expect(typeof expected).toBe('string');
          seen.refused++;
          return;
        }
        expect(mergedLines(made.tree)).toEqual(mergedLines(expected));
        expect(made.tree.root).toMatchObject({ mode: expected.root.mode, mtime: expected.root.mtime });
        expect(made.implied.toSorted()).toEqual(undescribed(expected).sort());
        if (layers.length > 1) seen.several++;
        if (made.implied.length > 1) seen.implied++;
      }),
      { numRuns: rounds(4000, 300, 0.1) },
    );
    for (const [what, times] of Object.entries(seen)) expect(times, what).toBeGreaterThan(5);
  });

  it('stack to the merged tree, or depend on the layers below', () => {
    const seen = { below: 0, whole: 0, alone: 0, implied: 0, hiding: 0 };
    fc.assert(
      fc.property(
        fc.array(randomLayer, { minLength: 1, maxLength: 4 }),
        fc.constantFrom('overlay' as const, 'overlay-user' as const),
        portions,
        (stack, form, sizes) => {
          const layers = stack.map(shortLayer);
          const userXattr = form === 'overlay-user';
          const trees: Tree[] = [];
          for (const [i, one] of layers.entries()) {
            const made = attempt(() => appliedTree([one], { form, portions: sizes }));
            const alone = attempt(() => layerTree(one, { below: 'unknown', userXattr }));
            if (typeof alone !== 'string') {
              if (typeof made === 'string') expect(made).toBe('applied');
              else expect(linesOf(made.tree)).toEqual(linesOf(alone));
              seen.alone++;
            }
            const merge = attempt(() => mergeLayers(layers.slice(0, i + 1)));
            if (typeof made === 'string') {
              if (made === 'ERR_UNPACK_BELOW') seen.below++;
              else expect(merge).toBeTypeOf('string');
              break;
            }
            if (!settle(made.tree, made, mergeLayers(layers.slice(0, i)))) break;
            expect(merge).toBeTypeOf('object');
            trees.push(made.tree);
            if (made.implied.length > 1) seen.implied++;
            if (made.hiding.length > 0) seen.hiding++;
          }
          if (trees.length === 0) return;
          if (trees.length > 1) seen.whole++;
          const expected = mergedLines(mergeLayers(layers.slice(0, trees.length)));
          expect(foldedLines(trees, { userXattr })).toEqual(expected);
        },
      ),
      { numRuns: rounds(4000, 300, 0.1) },
    );
    for (const [what, times] of Object.entries(seen)) expect(times, what).toBeGreaterThan(5);
  });
});

/** Directories as no entry of `randomLayer` describes one. */
function undescribed(tree: Tree): string[] {
  const isPlain = ({ type, mode, mtime }: Tree['root']): boolean => type === 'dir' && mode === 0o755 && mtime === 0;
  return [...walk(tree)].filter(({ node }) => isPlain(node as Tree['root'])).map(({ path }) => path);
}

/** Whiteouts are one inode in the one tree and several in the other, which nobody sees. */
function linesOf(tree: Tree): string[] {
  return mergedLines(tree).map((line) => (line.includes('"type":"char"') ? line.replace(/"inode":"[^"]*"/, '') : line));
}

function attempt<T>(work: () => T): T | string {
  try {
    return work();
  } catch (error) {
    if (error instanceof UnpackError) expect(error.cause).toBeInstanceOf(TreeError);
    if (error instanceof UnpackError || error instanceof TreeError) return error.code;
    throw error;
  }
}
