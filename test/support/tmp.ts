import { mkdtempSync, rmSync } from 'node:fs';
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
export function keptTempDir(prefix = 'peel-'): { path: string; [Symbol.dispose](): void } {
  const dir = mkdtempSync(path.join(tmpdir(), prefix));
  return { path: dir, [Symbol.dispose]: () => rmSync(dir, { recursive: true, force: true }) };
}
