import { accessSync, constants, existsSync, realpathSync, statSync } from 'node:fs';
import { delimiter, resolve } from 'node:path';
import type { Command } from 'commander';
import { readEnvironment } from '../../config/environment.ts';
import { DaemonError } from '../../daemon/errors.ts';
import { executeKeeper, keeperStatus, upgradeDaemon } from '../../daemon/keeper-status.ts';
import type { KeeperStatus, Upgraded } from '../../daemon/keeper-status.ts';
import { keeperProgram } from '../../native/keeper-program.ts';
import { example } from '../command.ts';
import type { CliContext } from '../context.ts';
import { CommandError, UsageError } from '../errors.ts';
import { placeOf } from '../find-daemon.ts';
import { humanDuration, printable } from '../human.ts';
import { parseDuration, parseFile } from '../options.ts';

interface UpgradeOptions {
  readonly to?: string;
  readonly timeout: number;
}

/** A keeper that asks its new program takes no longer. */
const keeperMs = 5_000;

export function define(command: Command, context: CliContext): void {
  command
    .description(
      'Ends the daemon of `peel keeper` and starts the new version; containers wait for a moment. When it does not become ready the old one is started again, and the exit code is 1. Under systemd: systemctl restart peel.',
    )
    .argument('[command...]', 'what to start instead, with its arguments; default: the same command again')
    .option('--to <path>', 'the `peel` to start instead, with the arguments of the one that runs', parseFile)
    .option('--timeout <duration>', 'how long the new version may take to become ready', parseDuration, 60_000)
    .action(async (words: string[], options: UpgradeOptions) => {
      if (words.length > 0 && options.to !== undefined) throw new UsageError('either a command or --to');
      const { keeper: socket } = await placeOf(context);
      const { signal } = context;
      const before = parentOnly(await keeperStatus({ socket, signal }), socket);
      const started = options.to === undefined ? ownCommand(words) : versionAt(resolve(options.to), before);
      const request = { socket, command: started, readyMs: options.timeout, signal };
      const done = await upgradeDaemon(request).catch((error: unknown) => {
        throw signal.aborted ? new CommandError('not waited for: the keeper goes on with the upgrade') : withLog(error);
      });
      const anew = await renewKeeper(context, { socket, before, main: options.to });
      await report(context, done, anew);
    });
  example(command, 'peel upgrade --to /opt/peel-0.2/bin/peel');
}

function parentOnly(status: KeeperStatus | undefined, socket: string): KeeperStatus {
  if (status?.daemon !== undefined) return status;
  const what =
    status === undefined
      ? `no keeper answers on ${socket}, so nothing holds the daemon's mounts while it is replaced`
      : `the keeper on ${socket} did not start the daemon`;
  throw new CommandError(
    `${what}: with systemd, install the new version and \`systemctl restart peel\`; without, run the daemon by \`peel keeper\``,
    { code: 'ERR_KEEPER_NONE' },
  );
}

/** The keeper has another working directory, and searches another PATH. */
function ownCommand([program, ...args]: readonly string[]): readonly string[] {
  return program === undefined ? [] : [foundProgram(program), ...args];
}

function foundProgram(program: string): string {
  const folders = program.includes('/') ? [''] : (readEnvironment().path ?? '').split(delimiter);
  const found = folders.map((folder) => resolve(folder, program)).find(isExecutable);
  if (found === undefined) throw new CommandError(`${program} is not there, or cannot be executed`);
  return found;
}

/** The command of the daemon that runs, with another peel. */
function versionAt(path: string, { daemon }: KeeperStatus): readonly string[] {
  const command = daemon?.command ?? [];
  const verb = command.indexOf('daemon');
  // Behind node and its script, or behind an executable peel.
  const first = command.findIndex((word, place) => place > 0 && (word.startsWith('-') || place === verb));
  if (verb === -1 || first === -1)
    throw new CommandError(`the daemon was not started by \`peel daemon\`: give the whole command instead of --to`);
  if (!existsSync(path)) throw new CommandError(`${path} is not there`);
  const program = isExecutable(path) ? [path] : [process.execPath, path];
  return [...program, ...command.slice(first)];
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

function withLog(error: unknown): unknown {
  if (!(error instanceof DaemonError) || error.log.length === 0) return error;
  const lines = error.log.map((line) => `  ${printable(line)}`);
  return new CommandError([`${error.message}; it wrote last:`, ...lines].join('\n'), {
    code: error.code,
    cause: error,
  });
}

interface Renewal {
  readonly socket: string;
  readonly before: KeeperStatus;
  readonly main: string | undefined;
}

/** The keeper itself, where the new version has another one. What it holds stays with it; one that cannot go on is said and left alone. */
async function renewKeeper({ warn }: CliContext, { socket, before, main }: Renewal): Promise<boolean> {
  try {
    const path = main === undefined ? before.program : keeperProgram(realpathSync(main));
    const { dev, ino } = statSync(path, { bigint: true });
    if (before.file === `${dev}:${ino}`) return false;
    await executeKeeper({ socket, path, timeoutMs: 4 * keeperMs });
    const { executions } = (await keeperStatus({ socket, timeoutMs: keeperMs })) ?? before;
    return executions > before.executions;
  } catch (error) {
    warn(`the keeper stays as it is: ${error instanceof Error ? error.message : String(error)}`);
    return false;
  }
}

async function report(
  { options, output }: CliContext,
  done: Upgraded | undefined,
  isKeeperNew: boolean,
): Promise<void> {
  if (done === undefined) throw new CommandError('the keeper went away');
  if (options.json) return await output.value({ ...done, keeperExecuted: isKeeperNew });
  const keeper = isKeeperNew ? ', and the keeper is the new one too' : '';
  await output.line(`process ${done.pid} serves after ${humanDuration(done.tookMs)}${keeper}`);
}
