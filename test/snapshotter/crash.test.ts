// The service is killed at any moment: what it answered is there afterwards, and everything else is whole or absent.
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import { describe, expect, it } from 'vitest';
import { Kind } from '../../src/snapshotter/gen/containerd/services/snapshots/v1/snapshots_pb.ts';
import { Deferred } from '../../src/util/deferred.ts';
import { rounds } from '../support/fixtures.ts';
import { start } from '../support/run.ts';
import { SnapshotsClient } from '../support/snapshots-client.ts';
import { snapshotsWorld } from '../support/snapshots-world.ts';
import { tempDir } from '../support/tmp.ts';

const program = new URL('../support/snapshots-process.mjs', import.meta.url).pathname;
const ref = 'containerd.io/snapshot.ref';
const slots = 16;
const chain = (slot: number) => `sha256:${slot.toString(16).padStart(64, '0')}`;

/** What was answered, by the name of the snapshot; undefined: it is gone. */
type Answered = Map<string, Kind | undefined>;

interface Work {
  readonly client: SnapshotsClient;
  readonly answered: Answered;
  /** Names that a call without an answer may have changed. */
  readonly open: Set<string>;
  readonly onAnswer: () => void;
}

describe('a service that is killed', () => {
  it('has everything that it answered, and nothing by halves', { timeout: 300_000 }, async () => {
    const root = tempDir('peel-snap-crash-');
    const world = await snapshotsWorld({ root });
    const parents = Array.from({ length: slots }, () => world.layers.makeSlot());
    await world.close();
    mkdirSync(path.join(root, 's'));
    const answered: Answered = new Map();
    for (let round = 0; round < rounds(40, 4, 0.1); round += 1) {
      const socket = path.join(root, `s${round}`);
      const { child } = await start(process.execPath, [program, root, socket], /^serving/);
      const client = new SnapshotsClient(socket);
      const open = new Set<string>();
      const enough = new Deferred<void>();
      let left = Math.floor(Math.random() * 60);
      const onAnswer = () => void (left-- === 0 && enough.resolve());
      const work = { client, answered, open, onAnswer };
      const lanes = [0, 1, 2, 3].map((lane) => untilKilled(work, `${round}-${lane}`, parents));
      await enough.promise;
      await delay(Math.random() * 10);
      const gone = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGKILL');
      await gone;
      await Promise.all(lanes);
      client.close();
      await check(root, answered, open);
    }
    expect(answered.size).toBeGreaterThan(20);
  });
});

/** A life of snapshots, one call after the other, until there is no answer. */
async function untilKilled(work: Work, lane: string, parents: readonly number[]): Promise<void> {
  const { client } = work;
  for (let turn = 0; ; turn += 1) {
    const [key, name] = [`key-${lane}-${turn}`, `layer-${lane}-${turn}`];
    const slot = parents[turn % parents.length] ?? 0;
    const layer = `${chain(slot)}@${name}`;
    const done =
      (await call(work, [[key, Kind.ACTIVE]], () => client.prepare(key))) &&
      (await call(
        work,
        [
          [key, undefined],
          [name, Kind.COMMITTED],
        ],
        () => client.commit(name, key, { name }),
      )) &&
      // The name of such a snapshot is the service's own choice: it is found by its parent.
      (await call(work, [[layer, Kind.COMMITTED]], () => served(client.prepare('x', name, { [ref]: chain(slot) })))) &&
      (turn % 2 === 0 || (await call(work, [[`view ${key}`, Kind.VIEW]], () => client.view(`view ${key}`, name)))) &&
      (turn % 3 !== 0 || (await call(work, [[key, Kind.ACTIVE]], () => client.prepare(key)))) &&
      (turn % 3 !== 0 || (await call(work, [[key, undefined]], () => client.remove(key)))) &&
      (turn % 4 !== 0 || (await call(work, [], () => client.cleanup())));
    if (!done) return;
  }
}

async function call(
  work: Work,
  after: readonly [string, Kind | undefined][],
  ask: () => Promise<unknown>,
): Promise<boolean> {
  for (const [name] of after) work.open.add(name);
  try {
    await ask();
  } catch (error) {
    expect(error).toMatchObject({ code: status.UNAVAILABLE });
    return false;
  }
  work.onAnswer();
  for (const [name, kind] of after) {
    work.open.delete(name);
    work.answered.set(name, kind);
  }
  return true;
}

async function served(call: Promise<unknown>): Promise<void> {
  await call.then(
    () => expect.unreachable('the layer was not served'),
    (error: unknown) => {
      if ((error as { code?: status }).code !== status.ALREADY_EXISTS) throw error;
    },
  );
}

async function check(root: string, answered: Answered, open: ReadonlySet<string>): Promise<void> {
  const world = await snapshotsWorld({ root });
  const rows = world.state.snapshots.list();
  const names = new Map(
    rows.map((row) => [row.labels[ref] === undefined ? row.key : `${row.labels[ref]}@${row.parent?.key}`, row]),
  );
  const kinds = { view: Kind.VIEW, active: Kind.ACTIVE, committed: Kind.COMMITTED };
  for (const [name, kind] of answered) {
    const row = names.get(name);
    if (!open.has(name)) expect([name, row && kinds[row.kind]]).toEqual([name, kind]);
    else if (row === undefined) answered.delete(name);
    else answered.set(name, kinds[row.kind]);
  }
  const own = rows.filter(({ kind, slot }) => kind !== 'view' && slot === undefined);
  for (const { id } of own) expect(existsSync(`${root}/s/${id.toString(36)}/fs`)).toBe(true);
  for (const { labels, kind, key } of own) if (kind === 'committed') expect(labels).toEqual({ name: key });
  await world.client.cleanup();
  expect(readdirSync(`${root}/s`).sort()).toEqual(own.map(({ id }) => id.toString(36)).sort());
  await world.close();
}
