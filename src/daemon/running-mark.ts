import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { errorMessage } from '../layer/errors.ts';
import type { Logger } from '../observe/log.ts';

/** A file in the state directory while a daemon runs there: one that finds it knows that the one before did not end in order. */
export class RunningMark {
  readonly #path: string;
  readonly wasThere: boolean;

  constructor(root: string, log: Logger) {
    this.#path = join(root, 'running');
    this.wasThere = existsSync(this.#path);
    try {
      writeFileSync(this.#path, `${process.pid}\n`, { mode: 0o600 });
    } catch (error) {
      // On a full disk.
      log.warn({ error: errorMessage(error) }, 'an end out of order will not be noticed by the next daemon');
    }
  }

  /** The daemon has ended in order. */
  remove(): void {
    rmSync(this.#path, { force: true });
  }
}
