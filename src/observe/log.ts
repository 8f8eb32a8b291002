import { destination, pino } from 'pino';
import type { Logger } from 'pino';

export type { Logger } from 'pino';

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

/** One logger per process; components take `log.child({ component })`. Event fields, never tokens or URL queries. */
export function createLog(options: LogOptions = {}): Logger {
  return pino(
    {
      level: options.level ?? 'info',
      base: { pid: process.pid },
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      redact: secrets,
    },
    destination({ dest: options.to ?? 2, sync: true, mkdir: false }),
  );
}

/** For callers that were given none. */
export function silentLog(): Logger {
  return pino({ level: 'silent' });
}
