// The same image and the same program twice: mounted lazily by peel, and downloaded and unpacked.
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import type { StartReport } from '../../image/start-report.ts';
import { CommandError } from '../errors.ts';
import { programPath, rightAnswer } from './application.ts';
import { type Finished, runChild, runPeel } from './child.ts';
import type { PushTarget } from './push-layout.ts';
import { downloadAndUnpack } from './unpack.ts';

export interface Timing {
  /** Milliseconds from the start until the tree was there, its first byte was read, and the program had answered. */
  readonly readyMs: number;
  readonly firstByteMs: number;
  readonly answerMs: number;
  readonly output: string;
}

export interface LazyTiming extends Timing {
  /** What `peel why` says of it. */
  readonly start: StartReport;
}

/** Always unmounts. */
export async function mountAndRun(reference: string, work: string, signal: AbortSignal): Promise<LazyTiming> {
  const root = ['--root', path.join(work, 'state')];
  const dir = path.join(work, 'mounted');
  await mkdir(dir, { recursive: true });
  const started = performance.now();
  let timing: Timing;
  try {
    await runPeel([...root, 'mount', reference, dir], signal);
    timing = await runInside(dir, started, signal);
  } finally {
    await runPeel([...root, 'umount', dir]).catch((error: unknown) => leaveNothing(dir, error));
  }
  const { stdout } = await runPeel([...root, '--json', 'why', dir], signal);
  return { ...timing, start: JSON.parse(stdout) as StartReport };
}

export async function unpackAndRun(source: PushTarget, work: string, signal: AbortSignal): Promise<Timing> {
  const started = performance.now();
  return runInside(await downloadAndUnpack(source, work, signal), started, signal);
}

async function runInside(dir: string, started: number, signal: AbortSignal): Promise<Timing> {
  const readyMs = performance.now() - started;
  // In a child, like everything here that touches the mount: a child that hangs can be killed.
  await runChild('head', ['-c', '1', path.join(dir, 'usr/bin/python3')], signal);
  const firstByteMs = performance.now() - started;
  const { stdout } = await inChroot(dir, ['/usr/bin/python3', programPath], signal);
  const answerMs = performance.now() - started;
  if (!stdout.startsWith(`${rightAnswer}\n`)) throw new CommandError(`the program answered wrongly:\n${stdout}`);
  return { readyMs, firstByteMs, answerMs, output: stdout.trimEnd() };
}

function inChroot(dir: string, command: readonly string[], signal: AbortSignal): Promise<Finished> {
  if (process.getuid?.() === 0) return runChild('chroot', [dir, ...command], signal);
  return runChild('unshare', ['--user', '--map-root-user', 'chroot', dir, ...command], signal);
}

/** The last resort when `peel umount` failed; the mount is detached even if somebody still uses it. */
async function leaveNothing(dir: string, cause: unknown): Promise<void> {
  await runChild('umount', ['-l', dir]).catch(() => undefined);
  throw cause;
}
