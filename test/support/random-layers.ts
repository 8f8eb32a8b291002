// Layers of every kind of entry that means something to a tree.
import * as fc from 'fast-check';
import type { Short } from './short-layers.ts';

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
/** Few names, so that entries meet. What an entry describes never looks like a directory that none describes. */
export const randomLayer: fc.Arbitrary<Short[]> = fc
  .array(withParents, { maxLength: 6 })
  .map((groups) => groups.flat());

/** As most programs write layers: every path once, directories before what is in them, and no path through anything else. */
export const tidyLayer: fc.Arbitrary<Short[]> = fc
  .tuple(fc.array(fc.tuple(entry, fc.nat(5)), { maxLength: 8 }), fc.boolean())
  .map(([entries, parents]) => {
    const kinds = new Map<string, Short>();
    for (const [one, turn] of entries) {
      const text = typeof one === 'string' ? (one.split(' ')[0] as string) : String(one.path);
      const parts = text.split('/').filter((part) => part !== '' && part !== '.');
      const above = parts.slice(0, -1).map((_, i) => parts.slice(0, i + 1).join('/'));
      const isThrough = above.some((path) => kinds.has(path) && !isFolder(kinds.get(path) as Short));
      const path = parts.join('/');
      if (isThrough || kinds.has(path) || [...kinds.keys()].some((key) => key.startsWith(`${path}/`))) continue;
      if (parents) for (const dir of above) if (!kinds.has(dir)) kinds.set(dir, `${dir}/`);
      const files = [...kinds].filter(([key, short]) => !isFolder(short) && !key.includes('.wh.'));
      const target = files[turn]?.[0];
      kinds.set(path, target === undefined || isFolder(one) || path.includes('.wh.') ? one : `${path} = ${target}`);
    }
    return [...kinds.values()];
  });

function isFolder(short: Short): boolean {
  return (typeof short === 'string' ? short : String(short.path)).endsWith('/');
}

/** Few entries in any order. */
export const briefLayer: fc.Arbitrary<Short[]> = fc.array(entry, { minLength: 1, maxLength: 4 });

/** Directories, and links to them. */
export const linkedLayer: fc.Arbitrary<Short[]> = fc
  .tuple(
    fc.array(
      path.map((text): Short => `${text}/`),
      { maxLength: 3 },
    ),
    fc.array(
      fc.tuple(path, target).map(([from, to]): Short => `${from} -> ${to}`),
      { minLength: 1, maxLength: 2 },
    ),
    fc.array(
      path.map((text): Short => text),
      { maxLength: 2 },
    ),
  )
  .map((groups) => groups.flat());
