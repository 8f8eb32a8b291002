import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** A file in the state directory while a daemon runs there: one that finds it knows that the one before did not end in order. */
export class RunningMark {
  readonly #path: string;
  readonly wasThere: boolean;

  /** Errors: those of the file system. */
  constructor(root: string) {
    this.#path = join(root, 'running');
    this.wasThere = existsSync(this.#path);
    writeFileSync(this.#path, `${process.pid}\n`, { mode: 0o600 });
  }

  /** The daemon has ended in order. */
  remove(): void {
    rmSync(this.#path, { force: true });
  }
}
