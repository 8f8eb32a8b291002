import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { readEnvironment } from '../config/environment.ts';
import { preparePaths } from '../config/paths.ts';
import { type MountReport, parseMountReport } from '../daemon/mount-report.ts';
import { accessOf, handedOn } from './access-options.ts';
import type { MountWish } from './commands/mount.ts';
import type { CliContext } from './context.ts';
import { CommandError, UsageError } from './errors.ts';
import { announce } from './mount-foreground.ts';

const main = new URL('./main.js', import.meta.url).pathname;

/** Starts a process that serves the mount and waits until it does. Errors: what the process says went wrong. */
export async function mountDetached(context: CliContext, wish: MountWish): Promise<void> {
  const environment = readEnvironment();
  const { runDir } = await preparePaths({ root: context.options.root, environment, uid: process.getuid?.() ?? 0 });
  const logs = path.join(runDir, 'logs');
  mkdirSync(logs, { recursive: true, mode: 0o700 });
  const logFile = path.join(logs, `mount-${randomBytes(6).toString('hex')}.log`);
  const access = handedOn(await accessOf(context, wish.options));
  const child = spawnServer(context, wish, logFile, access.flags);
  // It may have ended before it read this; what it says of that is the answer.
  child.stdin?.on('error', () => undefined).end(access.stdin);
  // Waiting was given up: the process unmounts and ends by itself, and nothing of it is left when this one returns.
  const stop = (): void => void child.kill('SIGTERM');
  context.signal.addEventListener('abort', stop, { once: true });
  try {
    const outcome = await report(context, child);
    if (outcome?.kind === 'ready') {
      child.unref();
      const { mount, warnings } = outcome;
      await announce(context, String(mount['dir']), String(mount['transport']), mount, warnings);
      return;
    }
    const log = readFileSync(logFile, 'utf8').trim();
    rmSync(logFile, { force: true });
    context.signal.throwIfAborted();
    if (outcome?.kind === 'failed' && outcome.usage) throw new UsageError(outcome.message);
    if (outcome?.kind === 'failed') throw new CommandError(outcome.message, { code: outcome.code });
    throw new CommandError(`the mount process ended without a word${log === '' ? '' : `:\n${log.slice(-2000)}`}`);
  } finally {
    context.signal.removeEventListener('abort', stop);
  }
}

function spawnServer(
  context: CliContext,
  { reference, dir, options }: MountWish,
  logFile: string,
  accessFlags: readonly string[],
): ChildProcess {
  const { root, logLevel } = context.options;
  const flag = (name: string, value: string | undefined): string[] => (value === undefined ? [] : [`--${name}`, value]);
  const args = [
    ...flag('root', root),
    ...flag('log-level', logLevel === 'error' ? 'info' : logLevel),
    'mount',
    '--foreground',
    ...flag('report-fd', '3'),
    ...flag('log-file', logFile),
    ...flag('transport', options.transport),
    ...flag('index', options.index),
    ...flag('pull', options.pull),
    ...flag('platform', options.platform),
    ...flag('upper', options.upper),
    ...(options.rw ? ['--rw'] : []),
    ...(options.readAhead ? [] : ['--no-read-ahead']),
    ...(options.fill ? ['--fill'] : []),
    ...accessFlags,
    '--',
    reference,
    dir,
  ];
  const log = openSync(logFile, 'a', 0o600);
  try {
    return spawn(process.execPath, [main, ...args], { detached: true, stdio: ['pipe', log, log, 'pipe'] });
  } finally {
    closeSync(log);
  }
}

/** The last report, or undefined when the process ended before it. */
async function report(context: CliContext, child: ChildProcess): Promise<MountReport | undefined> {
  let last: MountReport | undefined;
  for await (const line of createInterface({ input: child.stdio[3] as Readable })) {
    last = parseMountReport(line);
    if (last.kind === 'progress') context.progress.report(last.progress);
  }
  context.progress.close();
  if (last?.kind !== 'ready')
    await new Promise((resolve) => (child.exitCode === null ? child.once('exit', resolve) : resolve(0)));
  return last;
}
