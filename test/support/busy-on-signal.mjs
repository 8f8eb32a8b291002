// Preloaded into a `peel` process by a test: SIGUSR2 keeps its JavaScript busy for three seconds, without a single turn of
// the event loop. Prints when that began and ended, in ns of the monotonic clock.
import { writeSync } from 'node:fs';

process.on('SIGUSR2', () => {
  const begin = process.hrtime.bigint();
  writeSync(2, `busy-from ${begin}\n`);
  while (process.hrtime.bigint() - begin < 3_000_000_000n);
  writeSync(2, `busy-until ${process.hrtime.bigint()}\n`);
});
