// The embedded registry in a process of its own, and what it says it sent.
import type { ChildProcess } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import type { RequestRecord } from '../../registry/server/server-stats.ts';
import { CommandError } from '../errors.ts';
import { ended, startPeel } from './child.ts';

export interface Traffic {
  readonly requests: number;
  /** Bytes of all response bodies. */
  readonly bytes: number;
  /** Bytes of those that were blobs of `layers`. */
  readonly layerBytes: number;
}

export class DemoRegistry implements AsyncDisposable {
  /** `127.0.0.1:PORT` */
  readonly host: string;
  readonly #child: ChildProcess;
  readonly #accessLog: string;
  readonly #ended: Promise<string>;

  private constructor(host: string, child: ChildProcess, accessLog: string, end: Promise<string>) {
    this.host = host;
    this.#child = child;
    this.#accessLog = accessLog;
    this.#ended = end;
  }

  /** Resolves when it listens. Errors: CommandError when it ends before that. */
  static async start(root: string, accessLog: string): Promise<DemoRegistry> {
    const child = startPeel([
      'registry',
      'serve',
      '--root',
      root,
      '--listen',
      '127.0.0.1:0',
      '--access-log',
      accessLog,
    ]);
    const end = ended(child, 'peel registry serve');
    if (!child.stdout) throw new TypeError('the registry was started without a pipe');
    const lines = createInterface({ input: child.stdout });
    const host = await Promise.race([
      new Promise<string>((resolve) => {
        lines.on('line', (line) => {
          const found = /http:\/\/(\S+?)\/?$/.exec(line);
          if (found?.[1]) resolve(found[1]);
        });
      }),
      end.then((how) => {
        throw new CommandError(`the registry ended before it listened (${how})`);
      }),
    ]);
    return new DemoRegistry(host, child, accessLog, end);
  }

  /** Everything since the log had `from` lines; the next call's `from` is `lines`. */
  async traffic(from: number, layers: readonly string[]): Promise<Traffic & { lines: number }> {
    const text = await readFile(this.#accessLog, 'utf8');
    const all = text.split('\n').filter((line) => line !== '');
    let [requests, bytes, layerBytes] = [0, 0, 0];
    for (const line of all.slice(from)) {
      const { kind, digest, bytes: sent } = JSON.parse(line) as RequestRecord;
      requests += 1;
      bytes += sent;
      if (kind === 'blob' && digest !== undefined && layers.includes(digest)) layerBytes += sent;
    }
    return { requests, bytes, layerBytes, lines: all.length };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGTERM');
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), 5000);
    await this.#ended;
    clearTimeout(timer);
  }
}
