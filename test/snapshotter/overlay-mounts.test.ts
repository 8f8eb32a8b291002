// What containers see of snapshots, through the kernel's overlayfs.
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { status } from '@grpc/grpc-js';
import { describe, expect, it } from 'vitest';
import { inSnapshot } from '../support/mounted-snapshot.ts';
import type { SnapshotsClient } from '../support/snapshots-client.ts';
import { snapshotsWorld } from '../support/snapshots-world.ts';
import type { SnapshotsWorld } from '../support/snapshots-world.ts';

/** Runs the script in a new active snapshot and commits it. */
async function layer(client: SnapshotsClient, name: string, parent: string, script: string): Promise<void> {
  const { code, err } = await inSnapshot(await client.prepare(`${name}-active`, parent), script);
  expect([code, err]).toEqual([0, '']);
  await client.commit(name, `${name}-active`);
}

/** What a container above the snapshot prints. */
async function above(client: SnapshotsClient, parent: string, script: string): Promise<string> {
  const [active, view] = [await client.prepare(`look ${parent}`, parent), await client.view(`view ${parent}`, parent)];
  const [first, second] = [await inSnapshot(active, script), await inSnapshot(view, script)];
  expect(first.err).toBe('');
  expect(second.out).toBe(first.out);
  return first.out;
}

/** Committed snapshots 1, 2, … with a file each; by turns unpacked ones and layers of ours. As many calls would only take their time. */
function stack({ layers, state, root }: SnapshotsWorld, count: number): void {
  const slots = Array.from({ length: count / 2 }, () => layers.makeSlot());
  let parent: number | undefined;
  state.snapshots.durably(() => {
    for (let at = 1; at <= count; at += 1) {
      const slot = at % 2 === 0 ? slots.pop() : undefined;
      parent = state.snapshots.insert({ key: String(at), kind: 'committed', parent, slot, labels: {} });
      const directory = slot === undefined ? `${root}/s/${parent.toString(36)}/fs` : layers.directory(slot);
      mkdirSync(directory, { recursive: true });
      writeFileSync(`${directory}/${at}`, 'x');
    }
  });
}

describe('mounted snapshots', () => {
  it('show changes, deletions and replaced directories of the layers above', async () => {
    const { client } = await snapshotsWorld();
    await layer(client, '1', '', 'echo foo > foo; mkdir -p a/b/c d; echo x > d/x; echo same > same');
    await layer(client, '2', '1', 'echo bar > bar; echo changed > foo; rm -r a/b; rm -r d; mkdir d; echo y > d/y');
    await layer(client, '3', '2', 'rm bar; mkdir a/new');
    expect(await above(client, '1', 'find . | LC_ALL=C sort; cat foo')).toBe(
      '.\n./a\n./a/b\n./a/b/c\n./d\n./d/x\n./foo\n./same\nfoo\n',
    );
    expect(await above(client, '3', 'find . | LC_ALL=C sort; cat foo same')).toBe(
      '.\n./a\n./a/new\n./d\n./d/y\n./foo\n./same\nchanged\nsame\n',
    );
  });

  it('show renamed files, moved directories, owners and links', async () => {
    const { client } = await snapshotsWorld();
    await layer(client, '1', '', 'mkdir dir1 dir2; echo Hello > dir1/f1; echo ... > dir2/f2; mkdir -m 1777 tmp');
    const change =
      'mkdir dir3; mv dir1/f1 dir3/f1; rm -r dir1; ln dir2/f2 dir3/f2; rm dir2/f2; chown 7:8 dir2; mv tmp temp';
    await layer(client, '2', '1', `${change}; echo new > dir2/f2`);
    await layer(client, '3', '2', 'mv dir3 dir4; chmod 0700 .');
    const shown = `find . -printf '%p %m %U:%G\\n' | grep -v ' 755 0:0' | LC_ALL=C sort; cat dir4/* dir2/f2`;
    expect(await above(client, '3', shown)).toBe(
      [
        '. 700 0:0',
        './dir2 755 7:8',
        './dir2/f2 644 0:0',
        './dir4/f1 644 0:0',
        './dir4/f2 644 0:0',
        './temp 1777 0:0',
        'Hello',
        '...',
        'new',
        '',
      ].join('\n'),
    );
  });

  it('take writes in an active one only', async () => {
    const { client, root } = await snapshotsWorld();
    await layer(client, '1', '', 'echo one > file');
    await layer(client, '2', '1', 'echo two > other');
    for (const parent of ['', '1', '2']) {
      const view = await inSnapshot(await client.view(`view ${parent}`, parent), 'touch new');
      expect(view.err).toMatch(/Read-only file system/);
      const active = await client.prepare(`active ${parent}`, parent);
      expect(await inSnapshot(active, 'echo new > new; cat new')).toMatchObject({ out: 'new\n', err: '' });
      // Mounted again it is as it was left.
      expect(await inSnapshot(await client.mounts(`active ${parent}`), 'cat new')).toMatchObject({ out: 'new\n' });
    }
    expect(readdirSync(`${root}/s/1/fs`)).toEqual(['file']);
  });

  it.each([
    ['127 layers', 127],
    ['500 layers', 500],
  ])('are one overlay for %s of two kinds', async (_what, count) => {
    const world = await snapshotsWorld();
    stack(world, count);
    expect(await above(world.client, String(count), 'ls | wc -l')).toBe(`${count}\n`);
  });

  it('take a layer that an image has twice for the upper one', async () => {
    const world = await snapshotsWorld();
    const { client, layers, state } = world;
    const [base, twice, between] = [1, 2, 3].map(() => layers.makeSlot()) as [number, number, number];
    for (const [slot, text] of [
      [base, 'base'],
      [twice, 'twice'],
      [between, 'between'],
    ] as const) {
      writeFileSync(`${layers.directory(slot)}/which`, text);
      writeFileSync(`${layers.directory(slot)}/${text}`, '');
    }
    let parent: number | undefined;
    for (const [at, slot] of [base, twice, between, twice].entries()) {
      parent = state.snapshots.insert({ key: String(at), kind: 'committed', parent, slot, labels: {} });
    }
    expect(await above(client, '3', 'ls; cat which')).toBe('base\nbetween\ntwice\nwhich\ntwice');
    expect(await above(client, '2', 'ls; cat which')).toBe('base\nbetween\ntwice\nwhich\nbetween');
  });

  it('are an error where the kernel cannot mount them', async () => {
    const world = await snapshotsWorld();
    const { client, root } = world;
    stack(world, 501);
    const refused = expect.objectContaining({
      code: status.FAILED_PRECONDITION,
      details: expect.stringMatching(/501 layers; overlayfs takes 500/),
    });
    await expect(client.prepare('key', '501')).rejects.toEqual(refused);
    await expect(client.view('key', '501')).rejects.toEqual(refused);
    expect(readdirSync(`${root}/s`).filter((name) => name.startsWith('new-'))).toEqual([]);
    await expect(client.stat('key')).rejects.toMatchObject({ code: status.NOT_FOUND });
  });

  it('say so where the kernel has to keep its marks for a user', async () => {
    const { client } = await snapshotsWorld({ userXattr: true });
    await layer(client, '1', '', 'mkdir d; echo x > d/x');
    const [mount] = await client.prepare('a', '1');
    expect(mount?.options.slice(0, 2)).toEqual(['index=off', 'userxattr']);
    await layer(client, '2', '1', 'rm -r d; mkdir d');
    expect(await above(client, '2', 'find d')).toBe('d\n');
  });
});
