// Layer tars made on the spot by the programs in test/fixtures.
import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { runOk } from './run.ts';

/**
 * - `zoo`: every shape of name and inode, hard links and whiteouts across layers.
 * - `sparse`: GNU tar's four sparse formats, a PAX global header.
 * - `wide`: many files in one directory (arguments: how many).
 * - `huge`: a sparse file of 5 GB.
 * - `bulk`: files of 1 MiB (arguments: how many, and optionally a seed).
 */
export type Fixture = 'zoo' | 'sparse' | 'wide' | 'huge' | 'bulk';

/** Writes the fixture's layers into the new directory `dir`. Returns the paths of the tars, lowest layer first. */
export async function makeFixture(name: Fixture, dir: string, ...args: string[]): Promise<string[]> {
  await mkdir(dir, { recursive: true });
  const program = new URL(`../fixtures/${name}.py`, import.meta.url).pathname;
  await runOk('python3', [program, dir, ...args]);
  const names = (await readdir(dir)).filter((file) => file.endsWith('.tar'));
  return names.sort().map((file) => join(dir, file));
}

/**
 * How often a test repeats something: `times` scaled by PEEL_TEST_SCALE, or by `usual` without it; at least `minimum`. A scale below 1 is for short runs: it
 * asks for no more than usual.
 */
export function rounds(times: number, minimum = 10, usual = 1): number {
  const wish = Number(process.env['PEEL_TEST_SCALE'] ?? usual);
  const scale = wish < 1 ? Math.min(wish, usual) : wish;
  return Math.max(Math.min(minimum, times), Math.round(times * scale));
}

/** Whether a test that takes long and shows what a smaller one shows as well is to run: with PEEL_TEST_SCALE=1. */
export function isFullScale(): boolean {
  return rounds(100, 1, 0) >= 100;
}
