// Where a command line runs: most of them share one process with all others of the test's process. Loading the modules takes longer than what
// they do, and tests are seldom about the process itself.
import { CommandProcess } from './command-process.ts';
import { peel, type RunOptions, type RunResult } from './run.ts';

/** Verbs that serve, or that hand on the output of other programs. */
const ownProcess: readonly string[] = ['daemon', 'demo', 'doctor', 'record'];

/** Variables that a process reads once, at its start. */
const ofProcess = /^(NODE|SSL|UV|LD)_/;

let shared: CommandProcess | undefined;

/**
 * As `peel`, in the shared process where that makes no difference: not for what is signalled, reads an input, or has a working directory of
 * its own, nor while another command line is at work.
 */
export async function sharedPeel(args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const { env = {}, timeout, ...own } = options;
  const isOwn =
    Object.values(own).some((value) => value !== undefined) ||
    Object.keys(env).some((name) => ofProcess.test(name)) ||
    args.includes('--foreground') ||
    args.some((word) => ownProcess.includes(word));
  return await ((isOwn ? undefined : sharedProcess())?.peel(args, { env, timeout }) ?? peel(args, options));
}

/** The process that is shared, undefined while it is at work. */
export function sharedProcess(): CommandProcess | undefined {
  if (shared?.isBusy === true) return undefined;
  if (shared?.hasEnded !== false) shared = new CommandProcess();
  return shared;
}
