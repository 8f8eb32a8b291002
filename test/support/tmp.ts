import { accessSync, constants, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { onTestFinished } from 'vitest';

/** A new folder under the system's temporary folder, removed when the test (or hook's test) ends. */
export function tempDir(prefix = 'peel-'): string {
  const dir = mkdtempSync(path.join(tmpdir(), prefix));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

/** The same for `beforeAll`: the caller disposes it in `afterAll`. */
export function keptTempDir(prefix = 'peel-', place = tmpdir()): { path: string; [Symbol.dispose](): void } {
  const dir = mkdtempSync(path.join(place, prefix));
  return { path: dir, [Symbol.dispose]: () => rmSync(dir, { recursive: true, force: true }) };
}

/** In memory where the machine has such a place: for stores that make thousands of files durable while something else is tested. */
export function keptMemoryDir(): ReturnType<typeof keptTempDir> {
  try {
    accessSync('/dev/shm', constants.W_OK);
    return keptTempDir('peel-', '/dev/shm');
  } catch {
    return keptTempDir();
  }
}
