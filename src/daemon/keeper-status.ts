// What the keeper says of itself, and what else may be asked of it.
import { DaemonError } from './errors.ts';
import { KeeperConnection, valueOf, valuesOf } from './keeper-connection.ts';
import type { KeeperLines } from './keeper-connection.ts';

export interface KeeperStatus {
  /** `parent`: it starts the daemon itself. `alone`: it does nothing but hold file descriptors. */
  readonly mode: 'alone' | 'parent';
  readonly pid: number;
  /** Path of its executable. */
  readonly program: string;
  /** "DEVICE:INODE" of the file that it runs, which may have been replaced since. */
  readonly file: string;
  /** How many file descriptors it holds, and how many it may. */
  readonly fds: number;
  readonly maxFds: number;
  /** How often it was executed anew. */
  readonly executions: number;
  /** Of a parent. */
  readonly daemon?: KeeperDaemon | undefined;
}

export interface KeeperDaemon {
  /** `pausing`: before the next start. */
  readonly phase: string;
  /** 0 when there is none at the moment. */
  readonly pid: number;
  readonly restarts: number;
  /** How the one before ended. */
  readonly lastEnd?: string | undefined;
  readonly command: readonly string[];
}

export interface KeeperQuestion {
  readonly socket: string;
  readonly timeoutMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface UpgradeOptions extends KeeperQuestion {
  /** Empty: the same again. */
  readonly command: readonly string[];
  /** ms until a version counts as not ready. */
  readonly readyMs: number;
}

export interface Upgraded {
  readonly pid: number;
  /** From the order to READY=1. */
  readonly tookMs: number;
}

/** Beyond the new version's time: what the old one needs to end, and, where it has to come back, at least has to become ready. */
const [endMs, oldMs] = [45_000, 60_000];

/** Undefined where no keeper listens. Errors: ERR_KEEPER_ANSWER, errno codes; the signal's reason. */
export async function keeperStatus(question: KeeperQuestion): Promise<KeeperStatus | undefined> {
  const lines = await ask([['PEEL', 'status']], question);
  return lines === undefined ? undefined : statusOf(lines);
}

/**
 * Resolves when the new version is ready. Undefined where no keeper listens.
 * Errors: ERR_KEEPER_REFUSED when it did not become ready and the old one was started again (`log` has what the new one wrote last), or
 * when the keeper has no daemon; ERR_KEEPER_ANSWER. The keeper goes on with it, whatever becomes of who asked.
 */
export async function upgradeDaemon({ command, readyMs, ...question }: UpgradeOptions): Promise<Upgraded | undefined> {
  const words = command.map((word) => ['ARG', word] as const);
  const request: KeeperLines = [['PEEL', 'upgrade'], ['TIMEOUT_MSEC', String(Math.ceil(readyMs))], ...words];
  const lines = await ask(request, { ...question, timeoutMs: endMs + readyMs + Math.max(readyMs, oldMs) });
  return lines === undefined
    ? undefined
    : { pid: numberOf(lines, 'DAEMON_PID'), tookMs: numberOf(lines, 'READY_MSEC') };
}

/**
 * Has the keeper become the program at `path` (or what its own path names now) and hold on to everything. False where no keeper listens.
 * Errors: ERR_KEEPER_REFUSED when that program cannot go on, and the keeper stays what it is; ERR_KEEPER_ANSWER.
 */
export async function executeKeeper({
  path,
  ...question
}: KeeperQuestion & { readonly path?: string | undefined }): Promise<boolean> {
  const request: KeeperLines = [['PEEL', 'reexec'], ...(path === undefined ? [] : [['PATH', path] as const])];
  return (await ask(request, { timeoutMs: 30_000, ...question })) !== undefined;
}

async function ask(request: KeeperLines, { socket, ...options }: KeeperQuestion): Promise<KeeperLines | undefined> {
  const connection = KeeperConnection.open(socket);
  if (connection === undefined) return undefined;
  try {
    return (await connection.ask(request, options)).lines;
  } finally {
    connection.close();
  }
}

function statusOf(lines: KeeperLines): KeeperStatus {
  const mode = valueOf(lines, 'MODE');
  if (mode !== 'alone' && mode !== 'parent')
    throw new DaemonError('ERR_KEEPER_ANSWER', 'keeper: a status that is none');
  return {
    mode,
    pid: numberOf(lines, 'PID'),
    program: valueOf(lines, 'PROGRAM') ?? '',
    file: valueOf(lines, 'FILE') ?? '',
    fds: numberOf(lines, 'FDS'),
    maxFds: numberOf(lines, 'MAX_FDS'),
    executions: numberOf(lines, 'EXECUTIONS'),
    daemon: mode === 'alone' ? undefined : daemonOf(lines),
  };
}

function daemonOf(lines: KeeperLines): KeeperDaemon {
  return {
    phase: valueOf(lines, 'DAEMON') ?? '',
    pid: numberOf(lines, 'DAEMON_PID'),
    restarts: numberOf(lines, 'RESTARTS'),
    lastEnd: valueOf(lines, 'LAST_END'),
    command: valuesOf(lines, 'ARG'),
  };
}

function numberOf(lines: KeeperLines, key: string): number {
  const value = Number(valueOf(lines, key));
  if (!Number.isSafeInteger(value)) throw new DaemonError('ERR_KEEPER_ANSWER', `keeper: no number in ${key}`);
  return value;
}
