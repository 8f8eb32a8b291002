// A cache and a database are written by a process whose writes and syncs are recorded; then the power is cut at many moments, and what is
// left must hold nothing that is trusted and wrong, and all that was promised.
import { mkdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ContentStore } from '../../src/image/content-store.ts';
import { LayerCache } from '../../src/native/layer-cache.ts';
import { parseDigest } from '../../src/oci/digest.ts';
import { openState } from '../../src/state/state.ts';
import { random } from '../support/damage.ts';
import { rounds } from '../support/fixtures.ts';
import { type DiskEvent, readEvents, RecordedDisk } from '../support/recorded-disk.ts';
import { runOk } from '../support/run.ts';
import { keptMemoryDir } from '../support/tmp.ts';
import { bytesOf, cacheOptions, spans, spanSize } from './power-cut/world.mjs';

/** What the process said that it has done. */
interface Promises {
  /** Of the cache `a`: present in its last sync, and not evicted since. */
  readonly synced: Set<number>;
  readonly rows: string[];
  readonly contents: string[];
  adopted: boolean;
  complete: boolean;
}

interface Found {
  /** Present, and not what they should be. */
  readonly wrong: string[];
  /** Promised, and gone. */
  readonly lost: string[];
}

interface Recording {
  readonly root: string;
  readonly inodes: string;
  readonly dir: string;
  readonly rootInode: bigint;
  readonly events: readonly DiskEvent[];
}

const places: { readonly path: string; [Symbol.dispose](): void }[] = [];
let recorder: string;

beforeAll(async () => {
  const place = keptMemoryDir();
  places.push(place);
  recorder = join(place.path, 'recorder.so');
  const source = new URL('power-cut/recorder.c', import.meta.url).pathname;
  await runOk('gcc', [
    '-shared',
    '-fPIC',
    '-O1',
    '-Wall',
    '-Wextra',
    '-Werror',
    '-o',
    recorder,
    source,
    '-ldl',
    '-lpthread',
  ]);
});
afterAll(() => places.forEach((place) => place[Symbol.dispose]()));

async function record(seed: number, steps: number): Promise<Recording> {
  const place = keptMemoryDir();
  places.push(place);
  const dir = place.path;
  const [root, inodes, log] = [join(dir, 'root'), join(dir, 'inodes'), join(dir, 'log')];
  for (const made of [root, inodes]) mkdirSync(made);
  const rootInode = statSync(root, { bigint: true }).ino;
  const program = new URL('power-cut/workload.mjs', import.meta.url).pathname;
  await runOk(process.execPath, [program, root, join(dir, 'run'), String(seed), String(steps)], {
    env: {
      LD_PRELOAD: recorder,
      PEEL_RECORD_ROOT: root,
      PEEL_RECORD_INODES: inodes,
      PEEL_RECORD_LOG: log,
      UV_USE_IO_URING: '0',
    },
  });
  return { root, inodes, dir, rootInode, events: readEvents(log) };
}

/** Cuts the power after so many events each, and looks at what is left. */
async function cutAt(
  recording: Recording,
  moments: readonly number[],
  seed: number,
  isSynced: (inode: bigint) => boolean = () => true,
): Promise<Found> {
  const { root, inodes, rootInode, events } = recording;
  const below = random(seed);
  const disk = new RecordedDisk(root, rootInode, isSynced);
  const acks = events.find(({ type, path }) => type === 'C' && path === join(root, 'acks'))?.inode;
  const promises: Promises = { synced: new Set(), rows: [], contents: [], adopted: false, complete: false };
  const found: Found = { wrong: [], lost: [] };
  let at = 0;
  for (const moment of moments.toSorted((a, b) => a - b)) {
    for (; at < moment; at += 1) {
      const event = events[at] as DiskEvent;
      disk.apply(event);
      if (event.type === 'W' && event.inode === acks) promise(promises, event.bytes);
    }
    disk.cut(inodes, below);
    await look(recording, promises, moment, found);
  }
  return found;
}

function promise(promises: Promises, line: Buffer): void {
  const said = JSON.parse(line.toString()) as Partial<Record<string, unknown>>;
  const numbers = (name: string) => (said[name] ?? []) as number[];
  for (const span of numbers('synced')) promises.synced.add(span);
  for (const span of numbers('evicting')) promises.synced.delete(span);
  if (typeof said['row'] === 'string') promises.rows.push(said['row']);
  if (typeof said['content'] === 'string') promises.contents.push(said['content']);
  promises.adopted ||= said['adopted'] === true;
  promises.complete ||= said['complete'] === true;
}

async function look(
  { root, dir }: Recording,
  promises: Promises,
  moment: number,
  { wrong, lost }: Found,
): Promise<void> {
  // The machine starts again: what was in memory is gone.
  const runDir = join(dir, 'run-after');
  rmSync(runDir, { recursive: true, force: true });
  for (const name of ['a', 'b'] as const) {
    const cache = LayerCache.open(cacheOptions(root, runDir, name));
    const bytes = bytesOf(name);
    for (let span = 0; span < spans; span += 1) {
      const isPromised = name === 'a' ? promises.complete || promises.synced.has(span) : promises.adopted;
      if (!cache.isPresent(span)) {
        if (isPromised) lost.push(`${moment}: span ${span} of ${name}`);
        continue;
      }
      // Before anybody reads it, who would compare it with its checksum.
      if (!(await cache.verify(span))) wrong.push(`${moment}: span ${span} of ${name} is present`);
      else if (
        !(await cache.read(span * spanSize, spanSize)).equals(bytes.subarray(span * spanSize, (span + 1) * spanSize))
      )
        wrong.push(`${moment}: span ${span} of ${name} has the checksum of other bytes`);
    }
    if (name === 'a' && promises.complete && !cache.complete) lost.push(`${moment}: the mark that it is complete`);
    await cache.close();
  }
  const state = openState(root);
  const { integrity, snapshots } = state;
  for (const error of [...integrity.fileErrors(), ...integrity.danglingRows()]) wrong.push(`${moment}: ${error}`);
  for (const { key, why } of integrity.damagedRows()) wrong.push(`${moment}: row ${key}: ${why}`);
  for (const key of promises.rows)
    if (snapshots.get(key)?.labels['number'] !== key.slice(4)) lost.push(`${moment}: ${key}`);
  state.close();
  const content = new ContentStore(root);
  for (const digest of promises.contents)
    if ((await content.get(parseDigest(digest))) === undefined) lost.push(`${moment}: content ${digest}`);
}

/** Behind every sync, and some in between. */
function momentsOf({ events }: Recording, count: number, seed: number): number[] {
  const below = random(seed);
  const syncs = events.flatMap(({ type }, i) => (type === 'S' ? [i, i + 1] : []));
  return Array.from({ length: count }, (_, i) =>
    i % 3 === 0 ? below(events.length + 1) : (syncs[below(syncs.length)] ?? 0),
  ).concat(events.length);
}

describe('after a power cut', () => {
  it('no span is trusted that has wrong bytes, and nothing is lost that was promised', async () => {
    for (let seed = 1; seed <= rounds(12, 1, 0.1); seed += 1) {
      const recording = await record(seed, 60);
      expect(recording.events.filter(({ type }) => type === 'S').length).toBeGreaterThan(30);
      const found = await cutAt(recording, momentsOf(recording, rounds(300, 24, 0.1), seed), seed);
      expect({ seed, ...found }).toEqual({ seed, wrong: [], lost: [] });
    }
  });

  it('it shows where a disk forgets what it was told to keep', async () => {
    const recording = await record(99, 60);
    const { events, root } = recording;
    const moments = momentsOf(recording, 24, 5);
    const inode = (name: string) =>
      events.findLast(({ type, path }) => type === 'C' && path === join(root, name))?.inode;
    // The last one: a new cache makes its file twice.
    const data = inode('blobs/a/data');
    const withoutData = await cutAt(recording, moments, 5, (each) => each !== data);
    expect(withoutData.wrong.length).toBeGreaterThan(0);
    const log = inode('peel.db-wal');
    const withoutLog = await cutAt(recording, moments, 5, (each) => each !== log);
    expect(withoutLog.lost.filter((what) => what.includes('key-')).length).toBeGreaterThan(0);
  });
});
