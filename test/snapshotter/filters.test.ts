import { describe, expect, it } from 'vitest';
import { parseFilters } from '../../src/snapshotter/filters.ts';
import type { SnapshotRow } from '../../src/state/snapshots.ts';

const base = {
  parent: undefined,
  kind: 'committed',
  slot: undefined,
  image: undefined,
  layer: undefined,
  reason: undefined,
  unpacked: false,
  unsynced: undefined,
  size: undefined,
  inodes: undefined,
  createdAt: 0,
  updatedAt: 0,
} as const;

const rows: readonly SnapshotRow[] = [
  { ...base, id: 1, key: 'foo', labels: { foo: 'true' } },
  { ...base, id: 2, key: 'bar', labels: {}, kind: 'active', parent: { id: 1, key: 'foo' } },
  { ...base, id: 3, key: 'baz', labels: { foo: 'present', 'more complex label': 'yes' } },
  { ...base, id: 4, key: 'fooer', labels: { 'a \\ and "': 'x' }, kind: 'view', parent: { id: 3, key: 'baz' } },
  { ...base, id: 5, key: 'x', labels: { 'a \\ and ".post': 'x', 'a.b.c': 'omg_asdf.asdf-qwer' } },
  {
    ...base,
    id: 6,
    key: 'a, b/c',
    labels: { 'containerd.io/snapshot.ref': 'sha256:abc' },
    parent: { id: 1, key: 'foo' },
  },
  { ...base, id: 7, key: 'é\n', labels: { n: '' } },
];

const select = (...filters: string[]) =>
  parseFilters(filters)
    .select(rows)
    .map(({ id }) => id);

describe('filters', () => {
  it.each<[string, number[]]>([
    ['', [1, 2, 3, 4, 5, 6, 7]],
    ['name', [1, 2, 3, 4, 5, 6, 7]],
    ['name==foo', [1]],
    ['name!=foo', [2, 3, 4, 5, 6, 7]],
    ['name~=foo', [1, 4]],
    ['name~=^foo$', [1]],
    ['name == foo', [1]],
    ['kind==active', [2]],
    ['kind==committed,name==x', [5]],
    ['kind!=committed', [2, 4]],
    ['kind~=/^(view|active)$/', [2, 4]],
    ['parent==foo', [2, 6]],
    ['parent==""', [1, 3, 5, 7]],
    ['parent', [1, 2, 3, 4, 5, 6, 7]],
    ['labels.foo', [1, 3]],
    ['labels.foo,name', [1, 3]],
    ['labels.foo==true', [1]],
    ['labels.foo!=true', [2, 3, 4, 5, 6, 7]],
    ['labels.foo~=.', [1, 3]],
    ['labels.foo~=""', [1, 2, 3, 4, 5, 6, 7]],
    ['labels.a.b.c==omg_asdf.asdf-qwer', [5]],
    ['labels."a.b.c"~=asdf', [5]],
    ['labels."a.b".c~=|asdf|', [5]],
    ['labels."more complex label"', [3]],
    ['name==baz,labels."more complex label"==yes', [3]],
    [String.raw`labels."a \\ and \""==x`, [4]],
    [String.raw`labels."a \\ and \"".post==x`, [5]],
    ['name=="a, b/c"', [6]],
    [String.raw`name=="a, \x62/c"`, [6]],
    [String.raw`name=="a, \142/c"`, [6]],
    [String.raw`name=="\u00e9\n"`, [7]],
    [String.raw`name=="\xc3\xa9\n"`, [7]],
    [String.raw`name=="\U000000e9\n"`, [7]],
    ['name~=/[ab],/', [6]],
    ['name~=/b\\/c/', [6]],
    ['name~=|b/c|', [6]],
    [String.raw`name~=/^[a-c]{1,2}\\w$/`, [2, 3]],
    ['labels', []],
    ['nothing', []],
    ['nothing.at.all', []],
    ['nothing!=x', [1, 2, 3, 4, 5, 6, 7]],
    ['labels.__proto__', []],
    ['labels.constructor', []],
    ['labels."containerd.io/snapshot.ref"==sha256:abc,parent=="foo"', [6]],
    ['labels."containerd.io/snapshot.ref"==sha256:abc,parent==""', []],
  ])('%s', (filter, expected) => {
    expect(select(filter)).toEqual(expected);
  });

  it('needs one of several, and nothing of none', () => {
    expect(select()).toEqual([1, 2, 3, 4, 5, 6, 7]);
    expect(select('name==x', 'labels.foo', 'name==foo')).toEqual([1, 3, 5]);
    expect(select('name==nobody', '')).toEqual([1, 2, 3, 4, 5, 6, 7]);
  });

  it.each([
    'name==foo,',
    ',name',
    'labels.',
    '.labels',
    'name==',
    'name~=,id',
    'name=foo',
    'name===foo',
    'name=~foo',
    'name<foo',
    'name foo',
    'labels.?"a"==b',
    'labels.|foo|==x',
    'name==/x/',
    'name==|x|',
    'name=="x',
    'name=="x\n"',
    String.raw`name=="\q"`,
    String.raw`name=="\x4"`,
    String.raw`name=="\xff"`,
    String.raw`name=="\ud800"`,
    String.raw`name=="\U00110000"`,
    String.raw`name=="\477"`,
    'name~=/x',
    'name~=(',
    'name~=/[/',
    'name~=(?P<n>x)',
    `name==${'x'.repeat(40_000)}`,
    `name~=${'x'.repeat(2000)}`,
    Array.from({ length: 40 }, () => 'name').join(','),
  ])('refuses %s', (filter) => {
    expect(() => parseFilters([filter])).toThrow(expect.objectContaining({ code: 'ERR_SNAPSHOT_ARGUMENT' }));
  });

  it('refuses too many at once', () => {
    expect(() => parseFilters(Array.from({ length: 65 }, () => 'name'))).toThrow(/65 filters/);
  });

  it('gives up on a regular expression that would take for ever', () => {
    const slow = parseFilters(['name~=^(a+)+$']);
    const row: SnapshotRow = { ...base, id: 1, key: `${'a'.repeat(500)}!`, labels: {} };
    expect(() => slow.select([row])).toThrow(expect.objectContaining({ code: 'ERR_SNAPSHOT_ARGUMENT' }));
  });

  it('knows the label that all matches have', () => {
    const ref = { name: 'containerd.io/snapshot.ref', value: 'sha256:abc' };
    expect(parseFilters(['parent==x,labels."containerd.io/snapshot.ref"==sha256:abc']).label).toEqual(ref);
    expect(parseFilters(['labels.a==b', 'name==c']).label).toBeUndefined();
    expect(parseFilters(['labels.a!=b,labels.c']).label).toBeUndefined();
  });
});
