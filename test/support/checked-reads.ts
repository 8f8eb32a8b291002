// Processes that read a mount all the time and check every byte: a serving process must never read its own mount.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { onTestFinished } from 'vitest';

const script = new URL('checked-reads.py', import.meta.url).pathname;

export interface CheckedReads {
  readonly reads: number;
  readonly wrong: number;
  /** By errno name; `short`: less than there is. */
  readonly errors: Readonly<Record<string, number>>;
  readonly longestMs: number;
}

export interface CheckedReadsOptions {
  /** The files of the mount, and the same files as they have to be. */
  readonly dir: string;
  readonly expected: string;
  readonly readers?: number | undefined;
  /** Bytes of one read, at most. */
  readonly length?: number | undefined;
  readonly seed?: number | undefined;
}

/** Resolves when all of them read. `stop` ends them and says what they found, all together. They are killed with the test. */
export async function checkedReads(options: CheckedReadsOptions): Promise<{ stop(): Promise<CheckedReads> }> {
  const { dir, expected, readers = 4, length = 20_000, seed = 1 } = options;
  const children = Array.from({ length: readers }, (_, i) =>
    spawn('python3', [script, dir, expected, String(length), String(seed * 1000 + i)]),
  );
  onTestFinished(() => children.forEach((child) => child.kill('SIGKILL')));
  await Promise.all(children.map((child) => once(child.stderr, 'data')));
  return {
    stop: async () => {
      const found = await Promise.all(children.map(resultOf));
      const errors: Record<string, number> = {};
      for (const each of found)
        for (const [name, count] of Object.entries(each.errors)) errors[name] = (errors[name] ?? 0) + count;
      return {
        reads: found.reduce((sum, each) => sum + each.reads, 0),
        wrong: found.reduce((sum, each) => sum + each.wrong, 0),
        errors,
        longestMs: Math.max(...found.map((each) => each.longestMs)),
      };
    },
  };
}

async function resultOf(child: ChildProcess): Promise<CheckedReads> {
  let text = '';
  child.stdout?.on('data', (chunk: Buffer) => (text += chunk.toString()));
  const closed = once(child, 'close');
  child.stdin?.end();
  await closed;
  return JSON.parse(text) as CheckedReads;
}
