// Two processes work on the same jobs and are killed at any moment: a tree is whole or not there, and what was answered is true.
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { silentLog } from '../../src/observe/log.ts';
import { openState } from '../../src/state/state.ts';
import type { State } from '../../src/state/state.ts';
import { JobBook } from '../../src/unpack/job-book.ts';
import { Deferred } from '../../src/util/deferred.ts';
import { rounds } from '../support/fixtures.ts';
import { start } from '../support/run.ts';
import { jobFolders, jobsRoot } from '../support/unpack-jobs.ts';

const program = new URL('../support/unpack-jobs-process.mjs', import.meta.url).pathname;
const expiryMs = 30;

describe('processes that are killed', () => {
  it('leave jobs that are whole or can be done anew', { timeout: 300_000 }, async () => {
    const root = jobsRoot();
    mkdirSync(path.join(root, 'taken'));
    const answers = new Map<string, number>();
    for (let round = 0; round < rounds(100, 10, 0.1); round += 1) {
      const lines = await workAndDie(root, round);
      for (const line of lines) answers.set(line.split(' ')[0] ?? '', (answers.get(line.split(' ')[0] ?? '') ?? 0) + 1);
      expect(lines.filter((line) => line.startsWith('wrong'))).toEqual([]);
      const state = openState(root);
      await check(root, state, lines);
      state.close();
    }
    // All of it has happened.
    for (const what of ['done', 'claimed', 'ended', 'collected']) expect(answers.get(what)).toBeGreaterThan(5);
  });
});

/** What the processes said until they were killed. */
async function workAndDie(root: string, round: number): Promise<string[]> {
  const lines: string[] = [];
  const enough = new Deferred<void>();
  let left = Math.floor(Math.random() * 60);
  const workers = await Promise.all(
    ['x', 'y'].map(async (name) => {
      const { child } = await start(process.execPath, [program, root, `${name}${round}`], /^working/);
      let rest = '';
      let complaint = '';
      child.stderr?.on('data', (data: Buffer) => (complaint += data.toString()));
      child.stdout?.on('data', (data: Buffer) => {
        const parts = (rest + data.toString()).split('\n');
        rest = parts.pop() ?? '';
        lines.push(...parts);
        if ((left -= parts.length) < 0) enough.resolve();
      });
      const closed = new Promise<void>((resolve) => {
        child.once('close', () => {
          resolve();
          enough.resolve();
        });
      });
      return { child, closed, complaint: () => complaint };
    }),
  );
  await enough.promise;
  for (const { child, complaint } of workers) {
    await delay(Math.random() * 10);
    expect(child.exitCode, complaint()).toBeNull();
    child.kill('SIGKILL');
  }
  await Promise.all(workers.map(({ closed }) => closed));
  return lines;
}

async function check(root: string, state: State, lines: readonly string[]): Promise<void> {
  const book = new JobBook({ root, table: state.unpackJobs, boot: 'x', log: silentLog() });
  const rows = state.snapshots.list();
  const keys = new Set(rows.map(({ key }) => key));
  for (const line of lines) if (line.startsWith('claimed ')) expect(keys).toContain(line.slice('claimed '.length));
  for (const { key, layer } of rows) expect(content(path.join(root, 'taken', key))).toEqual(whole(layer));
  for (const { job, layer, state: reached } of state.unpackJobs.list()) {
    const tree = path.join(root, 'unpack', job.toString(36), 'fs');
    if (reached === 'done' && existsSync(tree)) expect(content(tree)).toEqual(whole(layer));
  }
  // Moved by a claim that never came about.
  for (const name of readdirSync(path.join(root, 'taken'))) {
    if (!keys.has(name)) rmSync(path.join(root, 'taken', name), { recursive: true });
  }
  const claimed = book.recover();
  expect(claimed.every((job) => job.state === 'claimed')).toBe(true);
  expect(state.unpackJobs.list().filter((row) => row.state === 'in_progress')).toEqual([]);
  for (const job of claimed) await job.remove();
  for (let turn = 1; turn <= 2; turn += 1) {
    await book.collect({ now: Date.now() + turn * expiryMs, expiryMs, inUse: () => false });
    expect(jobFolders(root)).toEqual([]);
  }
  expect(book.list()).toEqual([]);
}

const whole = (layer: string | undefined) => Array.from({ length: 5 }, () => layer);

function content(dir: string): string[] {
  return readdirSync(dir).map((name) => readFileSync(path.join(dir, name), 'utf8'));
}
