import { createRequire } from 'node:module';
import type { Logger as Pino } from 'pino';
import type { LogRing } from './log-ring.ts';

/** An event: its fields, then what happened. */
export type LogEvent = (fields: Readonly<Record<string, unknown>>, message: string) => void;

/** What components are handed. */
export interface Logger {
  readonly debug: LogEvent;
  readonly info: LogEvent;
  readonly warn: LogEvent;
  readonly error: LogEvent;
  child(bindings: Readonly<Record<string, unknown>>): Logger;
}

export interface LogOptions {
  /** `trace` … `fatal` or `silent`; default `info`. */
  readonly level?: string | undefined;
  /** File descriptor or path that the JSON lines go to; default 2 (stderr). Written synchronously: no line is lost in a crash. */
  readonly to?: number | string | undefined;
  /** Gets the same lines. */
  readonly ring?: LogRing | undefined;
}

const secrets = [
  'authorization',
  '*.authorization',
  'headers',
  '*.headers',
  'token',
  '*.token',
  'password',
  '*.password',
];

/** As pino has them; a name it does not know is refused by it. */
const levels: Readonly<Record<string, number>> = { debug: 20, info: 30, warn: 40, error: 50, fatal: 60, silent: 100 };

/** The least that is written; the loggers of all components look at one. */
interface Threshold {
  value: number;
}

/** One logger per process; components take `log.child({ component })`. Event fields, never tokens or URL queries. */
export function createLog(options: LogOptions = {}): Logger {
  return createAdjustableLog(options).log;
}

export interface AdjustableLog {
  readonly log: Logger;
  /** From now on, also for the children there are. */
  readonly setLevel: (level: string) => void;
}

export function createAdjustableLog(options: LogOptions = {}): AdjustableLog {
  const threshold = { value: levels[options.level ?? 'info'] ?? 0 };
  let root: Pino | undefined;
  return {
    log: lazyLogger(threshold, () => (root ??= createPino(options))),
    setLevel: (level) => void (threshold.value = levels[level] ?? 0),
  };
}

/** For callers that were given none. */
export function silentLog(): Logger {
  return createLog({ level: 'silent' });
}

/** Most commands log nothing, so what writes the lines is made, and its 30 files are loaded, with the first one. */
function lazyLogger(threshold: Threshold, make: () => Pino): Logger {
  let made: Pino | undefined;
  const event =
    (name: 'debug' | 'info' | 'warn' | 'error'): LogEvent =>
    (fields, message) => {
      if ((levels[name] ?? 0) >= threshold.value) (made ??= make())[name](fields, message);
    };
  return {
    debug: event('debug'),
    info: event('info'),
    warn: event('warn'),
    error: event('error'),
    child: (bindings) => lazyLogger(threshold, () => make().child(bindings)),
  };
}

function createPino({ to = 2, ring }: LogOptions): Pino {
  const { destination, pino } = createRequire(import.meta.url)('pino') as typeof import('pino');
  const file = destination({ dest: to, sync: true, mkdir: false });
  // A full pipe or disk must not end the process; a line that cannot be written is lost.
  file.on('error', () => undefined);
  const tee = (line: string) => {
    file.write(line);
    ring?.push(line.trimEnd());
  };
  return pino(
    {
      // What is written is decided before.
      level: 'trace',
      base: { pid: process.pid },
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      redact: secrets,
    },
    ring === undefined ? file : { write: tee },
  );
}
