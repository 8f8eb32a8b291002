// What a mount process tells the one that started it: JSON lines on a pipe, the last of them `ready` or `failed`.
import { closeSync, writeSync } from 'node:fs';
import type { Progress } from '../image/image.ts';

export type MountReport =
  | { readonly kind: 'progress'; readonly progress: Progress }
  | { readonly kind: 'ready'; readonly mount: Readonly<Record<string, unknown>>; readonly warnings: readonly string[] }
  | { readonly kind: 'failed'; readonly code: string; readonly message: string; readonly usage: boolean };

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

export function parseMountReport(line: string): MountReport {
  return JSON.parse(line) as MountReport;
}
