import { closeSync, writeSync } from 'node:fs';
import type { MountReport } from '../daemon/mount-report.ts';

/** How a mount process reports to the one that started it: on a pipe. */
export class MountReporter {
  #fd: number | undefined;

  constructor(fd: number) {
    this.#fd = fd;
  }

  send(report: MountReport): void {
    if (this.#fd === undefined) return;
    try {
      writeSync(this.#fd, `${JSON.stringify(report)}\n`);
    } catch {
      // The other side went away; the mount goes on without it.
      this.close();
    }
  }

  /** Idempotent. */
  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }
}
