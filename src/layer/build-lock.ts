import { open } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { tryLock } from '../native/sys.ts';
import type { LayerPaths } from './layer-paths.ts';

const pollMs = 50;

/** Runs `work` while no other process (and nobody else in this one) makes the same layer. A crash gives the lock up. */
export async function withBuildLock<T>(
  paths: LayerPaths,
  options: { readonly signal?: AbortSignal | undefined },
  work: () => Promise<T>,
): Promise<T> {
  const file = await open(paths.buildLock, 'a', 0o600);
  try {
    while (!tryLock(file.fd, 'exclusive')) await delay(pollMs, undefined, { signal: options.signal });
    return await work();
  } finally {
    await file.close();
  }
}

/** Runs `work` when nobody makes the layer now; else returns undefined without waiting. */
export async function tryBuildLock<T>(paths: LayerPaths, work: () => Promise<T>): Promise<T | undefined> {
  const file = await open(paths.buildLock, 'a', 0o600);
  try {
    return tryLock(file.fd, 'exclusive') ? await work() : undefined;
  } finally {
    await file.close();
  }
}
