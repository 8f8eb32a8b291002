import { setTimeout as delay } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { trimHeap } from '../native/sys.ts';

const pauseMs = 200;

/**
 * Gives back what preparing an image took: a process that serves a mount lives for days, and V8 and malloc keep what they once had
 * until somebody asks. Blocks this thread for some ten ms at a time; does not keep the process alive.
 */
export async function releaseMemory(): Promise<void> {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  setFlagsFromString('--no-expose-gc');
  // Twice: what the first one finalizes is free only for the second, and buffers are freed by a thread in between.
  for (let i = 0; i < 2; i += 1) {
    await delay(pauseMs, undefined, { ref: false });
    collect();
  }
  await delay(pauseMs, undefined, { ref: false });
  trimHeap();
}
