import { createRequire } from 'node:module';
import type { Logger as Pino } from 'pino';

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

/** One logger per process; components take `log.child({ component })`. Event fields, never tokens or URL queries. */
export function createLog(options: LogOptions = {}): Logger {
  let root: Pino | undefined;
  return lazyLogger(levels[options.level ?? 'info'] ?? 0, () => (root ??= createPino(options)));
}

/** For callers that were given none. */
export function silentLog(): Logger {
  return createLog({ level: 'silent' });
}

/** Most commands log nothing, so what writes the lines is made, and its 30 files are loaded, with the first one. */
function lazyLogger(level: number, make: () => Pino): Logger {
  let made: Pino | undefined;
  const event = (name: 'debug' | 'info' | 'warn' | 'error'): LogEvent =>
    (levels[name] ?? 0) < level ? () => undefined : (fields, message) => (made ??= make())[name](fields, message);
  return {
    debug: event('debug'),
    info: event('info'),
    warn: event('warn'),
    error: event('error'),
    child: (bindings) => lazyLogger(level, () => make().child(bindings)),
  };
}

function createPino({ level = 'info', to = 2 }: LogOptions): Pino {
  const { destination, pino } = createRequire(import.meta.url)('pino') as typeof import('pino');
  return pino(
    {
      level,
      base: { pid: process.pid },
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      redact: secrets,
    },
    destination({ dest: to, sync: true, mkdir: false }),
  );
}
