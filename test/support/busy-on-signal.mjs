// Preloaded into a `peel` process by a test: SIGUSR2 keeps its JavaScript busy, without a single turn of the event loop, until the file
// that PEEL_BUSY_UNTIL names is there, or half a minute has passed. Prints when that began and ended, in ns of the monotonic clock.
import { existsSync, writeSync } from 'node:fs';

const never = new Int32Array(new SharedArrayBuffer(4));

process.on('SIGUSR2', () => {
  const begin = process.hrtime.bigint();
  writeSync(2, `busy-from ${begin}\n`);
  // Leaves the processor to those whom nothing should keep waiting.
  while (!existsSync(process.env.PEEL_BUSY_UNTIL) && process.hrtime.bigint() - begin < 30_000_000_000n) {
    Atomics.wait(never, 0, 0, 2);
  }
  writeSync(2, `busy-until ${process.hrtime.bigint()}\n`);
});
