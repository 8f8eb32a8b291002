import { mkdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { release } from 'node:os';
import { join } from 'node:path';
import { probeErofs } from '../native/erofs-probe.ts';
import { bootId } from './process-identity.ts';

interface ProbeAnswer {
  readonly key: string;
  /** Empty: the kernel passed. */
  readonly refusal: string;
}

/**
 * Why the kernel must not mount trees that lie in `root`, or undefined. Tried once per boot and kernel; the answer is kept in
 * `runDir`. Needs root.
 */
export async function kernelRefusal(root: string, runDir: string): Promise<string | undefined> {
  const trees = join(root, 'trees');
  await mkdir(trees, { recursive: true, mode: 0o700 });
  const key = `${await bootId()} ${release()} ${(await stat(trees)).dev}`;
  const cache = join(runDir, 'erofs-probe.json');
  const known = await readAnswer(cache);
  if (known?.key === key) return known.refusal === '' ? undefined : known.refusal;
  const { supported, reason } = await probeErofs(trees);
  const answer: ProbeAnswer = { key, refusal: supported ? '' : reason };
  const temporary = `${cache}.${process.pid}`;
  await writeFile(temporary, JSON.stringify(answer), { mode: 0o600 });
  await rename(temporary, cache);
  return supported ? undefined : reason;
}

async function readAnswer(path: string): Promise<ProbeAnswer | undefined> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as ProbeAnswer;
  } catch {
    return undefined;
  }
}
