// What containerd's own suite asks of every snapshotter, over a real socket.
import { timestampMs } from '@bufbuild/protobuf/wkt';
import { status } from '@grpc/grpc-js';
import { describe, expect, it } from 'vitest';
import { Kind } from '../../src/snapshotter/gen/containerd/services/snapshots/v1/snapshots_pb.ts';
import type { SnapshotsClient } from '../support/snapshots-client.ts';
import { snapshotsWorld } from '../support/snapshots-world.ts';

const failsWith = (code: status, details?: RegExp) =>
  expect.objectContaining({ code, ...(details === undefined ? {} : { details: expect.stringMatching(details) }) });

/** c1 ← c2 ← a1, v1; a2 and v2 without parents. */
async function sixSnapshots(client: SnapshotsClient): Promise<void> {
  await client.committed('c1');
  await client.committed('c2', 'c1');
  await client.prepare('a1', 'c2');
  await client.prepare('a2');
  await client.view('v1', 'c2');
  await client.view('v2');
}

describe('the Snapshots service', () => {
  it('prepares, commits and removes a chain', async () => {
    const { client } = await snapshotsWorld();
    await client.prepare('one', '', { a: '1' });
    expect(await client.stat('one')).toMatchObject({ name: 'one', parent: '', kind: Kind.ACTIVE, labels: { a: '1' } });
    await client.commit('layer-1', 'one', { b: '2' });
    // Labels are replaced, not inherited.
    expect(await client.stat('layer-1')).toMatchObject({ kind: Kind.COMMITTED, labels: { b: '2' } });
    expect((await client.stat('layer-1')).labels).toEqual({ b: '2' });
    await expect(client.stat('one')).rejects.toEqual(failsWith(status.NOT_FOUND, /"one" does not exist/));

    await client.prepare('two', 'layer-1');
    expect(await client.stat('two')).toMatchObject({ parent: 'layer-1', kind: Kind.ACTIVE });
    await client.commit('layer-2', 'two');
    await client.view('look', 'layer-2');
    expect(await client.stat('look')).toMatchObject({ parent: 'layer-2', kind: Kind.VIEW });
    expect(await client.names()).toEqual(['layer-1', 'layer-2', 'look']);

    await expect(client.remove('layer-2')).rejects.toEqual(failsWith(status.FAILED_PRECONDITION, /remove.*children/));
    await client.remove('look');
    await expect(client.remove('layer-1')).rejects.toEqual(failsWith(status.FAILED_PRECONDITION, /children/));
    await client.remove('layer-2');
    await client.remove('layer-1');
    expect(await client.list()).toEqual([]);
  });

  it('gives each key once, whoever asks', async () => {
    const { client } = await snapshotsWorld();
    await client.committed('base');
    const both = await Promise.allSettled(Array.from({ length: 8 }, () => client.prepare('key', 'base')));
    expect(both.filter((each) => each.status === 'fulfilled')).toHaveLength(1);
    for (const each of both) {
      if (each.status === 'rejected') expect(each.reason).toEqual(failsWith(status.ALREADY_EXISTS));
    }
    await expect(client.view('key', 'base')).rejects.toEqual(failsWith(status.ALREADY_EXISTS));
    await client.view('look', 'base');
    await expect(client.view('look', 'base')).rejects.toEqual(failsWith(status.ALREADY_EXISTS));
  });

  it('takes a key again that was removed', async () => {
    const { client } = await snapshotsWorld();
    await client.committed('committed');
    await client.prepare('reuse', 'committed');
    await client.remove('reuse');
    await client.view('reuse', 'committed');
    await client.remove('reuse');
    await client.prepare('reuse');
    await client.remove('committed');
    await client.commit('committed', 'reuse');
    expect(await client.names()).toEqual(['committed']);
  });

  it('refuses what cannot be', async () => {
    const { client } = await snapshotsWorld();
    await sixSnapshots(client);
    await expect(client.prepare('x', 'nowhere')).rejects.toEqual(failsWith(status.NOT_FOUND, /parent "nowhere"/));
    await expect(client.view('x', 'nowhere')).rejects.toEqual(failsWith(status.NOT_FOUND));
    await expect(client.prepare('x', 'a1')).rejects.toEqual(failsWith(status.INVALID_ARGUMENT, /not committed/));
    await expect(client.view('x', 'v1')).rejects.toEqual(failsWith(status.INVALID_ARGUMENT));
    await expect(client.commit('c1', 'a1')).rejects.toEqual(failsWith(status.ALREADY_EXISTS));
    await expect(client.commit('x', 'nowhere')).rejects.toEqual(failsWith(status.NOT_FOUND));
    await expect(client.commit('x', 'v1')).rejects.toEqual(failsWith(status.FAILED_PRECONDITION, /not active/));
    await expect(client.commit('x', 'c1')).rejects.toEqual(failsWith(status.FAILED_PRECONDITION));
    await expect(client.remove('nowhere')).rejects.toEqual(failsWith(status.NOT_FOUND));
    await expect(client.mounts('nowhere')).rejects.toEqual(failsWith(status.NOT_FOUND));
    await expect(client.mounts('c1')).rejects.toEqual(failsWith(status.FAILED_PRECONDITION, /committed/));
    await expect(client.usage('nowhere')).rejects.toEqual(failsWith(status.NOT_FOUND));
    await expect(client.update('nowhere', {})).rejects.toEqual(failsWith(status.NOT_FOUND));
    expect(await client.names()).toEqual(['c1', 'c2', 'a1', 'a2', 'v1', 'v2']);
  });

  it.each(['c1', 'c2', 'a1', 'a2', 'v1', 'v2'])('updates the labels of %s and nothing else', async (name) => {
    const { client } = await snapshotsWorld();
    await sixSnapshots(client);
    const before = await client.stat(name);
    expect(before.updatedAt).toEqual(before.createdAt);
    const first = await client.update(name, { l1: 'v1', l2: 'v2', l3: 'v3' });
    expect(first).toEqual({ ...before, updatedAt: first.updatedAt, labels: { l1: 'v1', l2: 'v2', l3: 'v3' } });
    expect(first.updatedAt && timestampMs(first.updatedAt)).toBeGreaterThanOrEqual(
      (before.createdAt && timestampMs(before.createdAt)) ?? 0,
    );
    // One that is in the mask and not in the labels goes.
    const second = await client.update(name, { l1: 'updated', l4: 'v4' }, 'labels.l1', 'labels.l2');
    expect(second.labels).toEqual({ l1: 'updated', l3: 'v3' });
    expect((await client.update(name, { 'a.b/c': 'x' }, 'labels.a.b/c')).labels).toMatchObject({ 'a.b/c': 'x' });
    expect((await client.update(name, { l4: 'v4', gone: '' }, 'labels')).labels).toEqual({ l4: 'v4' });
    await expect(client.update(name, {}, 'parent')).rejects.toEqual(failsWith(status.INVALID_ARGUMENT, /"parent"/));
    expect((await client.stat(name)).labels).toEqual({ l4: 'v4' });
    expect((await client.update(name, {})).labels).toEqual({});
  });

  it('lists by filters, in messages that containerd takes', async () => {
    const { client } = await snapshotsWorld();
    await sixSnapshots(client);
    expect(await client.names('kind==view', 'name==c1')).toEqual(['c1', 'v1', 'v2']);
    expect(await client.names('kind==active,parent==c2')).toEqual(['a1']);
    expect(await client.names('parent==""')).toEqual(['c1', 'a2', 'v2']);
    await expect(client.names('kind=active')).rejects.toEqual(failsWith(status.INVALID_ARGUMENT, /expected one of/));
    const big = Object.fromEntries(Array.from({ length: 250 }, (_, at) => [`label${at}`, 'x'.repeat(4000)]));
    for (let at = 0; at < 6; at += 1) await client.prepare(`big${at}`, '', big);
    const found = await client.list('name~=^big');
    expect(found.map(({ labels }) => Object.keys(labels).length)).toEqual(Array.from({ length: 6 }, () => 250));
  });

  it('takes names and labels up to their limits, whatever is in them', async () => {
    const { client } = await snapshotsWorld();
    const odd = { 'nul\0': 'a\0b', '\u{1f600}': "'; DROP TABLE snapshots; --", 'new\nline': '%s\u2028' };
    await client.prepare('k\0ey', '', odd);
    await client.prepare('k\0ex');
    expect((await client.stat('k\0ey')).labels).toEqual(odd);
    await client.commit('"quoted\\\n', 'k\0ey', odd);
    await client.prepare('above', '"quoted\\\n');
    expect(await client.names(String.raw`parent=="\"quoted\\\n"`)).toEqual(['above']);
    await expect(client.stat('k\0ey')).rejects.toEqual(failsWith(status.NOT_FOUND));

    await client.prepare('l'.repeat(1024));
    await client.prepare('full', '', { n: 'x'.repeat(4095) });
    const refused = failsWith(status.INVALID_ARGUMENT);
    await expect(client.prepare('')).rejects.toEqual(refused);
    await expect(client.prepare('l'.repeat(1025))).rejects.toEqual(refused);
    await expect(client.prepare('é'.repeat(600))).rejects.toEqual(refused);
    await expect(client.prepare('p', 'l'.repeat(1025))).rejects.toEqual(refused);
    await expect(client.prepare('x', '', { n: 'x'.repeat(4096) })).rejects.toEqual(refused);
    const many = Object.fromEntries(Array.from({ length: 257 }, (_, at) => [`n${at}`, 'v']));
    await expect(client.prepare('x', '', many)).rejects.toEqual(refused);
    await expect(client.commit('', 'full')).rejects.toEqual(refused);
    await expect(client.update('full', many)).rejects.toEqual(refused);
    expect(await client.names('name==x')).toEqual([]);
  });

  it('keeps everything over a restart', async () => {
    const first = await snapshotsWorld();
    await sixSnapshots(first.client);
    const before = await first.client.list();
    const mounts = await first.client.mounts('a1');
    await first.close();
    const { client } = await snapshotsWorld({ root: first.root });
    expect(await client.list()).toEqual(before);
    expect(await client.mounts('a1')).toEqual(mounts);
  });

  it('tells the client nothing of what went wrong inside, and the log everything', async () => {
    const lines: unknown[] = [];
    const log = {
      debug: () => {},
      info: () => {},
      warn: () => {},
      child: () => log,
      error: (...line: unknown[]) => void lines.push(line),
    };
    const { client, state } = await snapshotsWorld({ log });
    state.close();
    await expect(client.stat('x')).rejects.toEqual(failsWith(status.INTERNAL, /^Stat failed; the log/));
    await expect(client.list()).rejects.toEqual(failsWith(status.INTERNAL, /^List failed/));
    expect(lines).toHaveLength(2);
  });
});
