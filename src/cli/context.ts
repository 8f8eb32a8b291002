// What every command is handed: where its answer goes, when to stop, and the node it works on (opened only when asked for).
import type { Output } from './output.ts';
import type { ProgressWriter } from './progress.ts';

export interface GlobalOptions {
  readonly root: string | undefined;
  readonly json: boolean;
  readonly logLevel: string;
}

export interface CliContext {
  readonly options: GlobalOptions;
  readonly output: Output;
  readonly progress: ProgressWriter;
  /** Aborted by SIGINT and SIGTERM. */
  readonly signal: AbortSignal;
  /** From now on signals that would abort go to `handler` instead, until the function that it returns is called. */
  readonly takeSignals: (handler: (signal: NodeJS.Signals) => void) => () => void;
  /** Something the person should know that is not the answer: one line on stderr. */
  readonly warn: (message: string) => void;
}
