import { symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { StartReport } from '../../src/image/start-report.ts';
import { parseDigest } from '../../src/oci/digest.ts';
import type { StartRow } from '../../src/state/starts.ts';
import { openState } from '../../src/state/state.ts';
import { PeelNode } from '../support/peel-node.ts';
import { startTrace } from '../support/start-trace.ts';

const node = new PeelNode();
const image = parseDigest(`sha256:${'c'.repeat(64)}`);
const base = { image, trace: JSON.stringify(startTrace()) };
const rows: StartRow[] = [
  { ...base, id: '1', reference: 'docker.io/library/app:1', dir: join(node.dir, 'mnt'), startedAt: 1000 },
  { ...base, id: '2', reference: 'docker.io/library/app:1', dir: undefined, startedAt: 2000 },
  { ...base, id: '3', reference: 'docker.io/library/new:1', dir: '/new', startedAt: 500, trace: '{"version":2}' },
];

beforeAll(async () => {
  expect(await node.ok(['why'])).toBe('no start is known\n');
  const state = openState(node.root);
  for (const row of rows) state.starts.tryPut(row);
  state.close();
  await symlink(node.dir, join(node.dir, 'link'));
});
afterAll(() => node.close());

it.each([join(node.dir, 'mnt'), join(node.dir, 'link', 'mnt')])('explains the last start on %s', async (dir) => {
  const report = await node.json<StartReport>(['why', dir]);
  expect(report).toMatchObject({ reference: 'docker.io/library/app:1', dir: rows[0]?.dir, startedAt: 1000 });
  expect(report.reads).toHaveLength(5);
  expect(report.reads[0]).toMatchObject({ at: 120, ms: 21.2, avoidedBy: 'profile' });
  expect(report.avoidable.map(({ by, reads }) => [by, reads])).toEqual([
    [undefined, 1],
    ['registry', 2],
    ['read-ahead', 1],
    ['profile', 1],
  ]);
});

it.each(['app:1', `other@${image}`])('finds the last start of the image %s', async (reference) => {
  const text = await node.ok(['why', reference]);
  expect(text).toMatch(/^docker\.io\/library\/app:1 in containerd, since /);
  expect(text).toContain(' 1.0 s   1.0 s  |        ###########');
});

it('lists the starts that are known', async () => {
  const lines = (await node.ok(['why'])).trimEnd().split('\n');
  expect(lines).toHaveLength(4);
  expect(lines[1]).toMatch(/docker\.io\/library\/app:1 +sha256:cccccccccccc +containerd$/);
  expect(await node.json(['why'])).toHaveLength(3);
});

it.each([
  ['/nowhere', `no start of /nowhere is known in ${node.root}`],
  ['./mnt', `no start of ./mnt is known in ${node.root}`],
  ['app:2', `no start of app:2 is known in ${node.root}`],
  ['/new', 'the last start of /new was written down by another version of peel'],
])('has nothing to say of %s', async (what, message) => {
  const { code, out, err } = await node.peel(['why', what]);
  expect({ code, out, err }).toEqual({ code: 1, out: '', err: `peel: ${message}\n` });
});
