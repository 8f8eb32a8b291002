// A regular expression from outside. JavaScript's may backtrack for ever, where RE2, which containerd has, cannot.
import { createContext, runInContext } from 'node:vm';
import { errorMessage } from '../layer/errors.ts';
import { SnapshotError } from './errors.ts';

const maxLength = 1024;
/** For all values together; they are short. */
const timeoutMs = 200;

export class BoundedPattern {
  readonly #pattern: string;

  /** Errors: ERR_SNAPSHOT_ARGUMENT when it is none, or uses what only RE2 knows. */
  constructor(pattern: string) {
    if (pattern.length > maxLength) {
      throw new SnapshotError('ERR_SNAPSHOT_ARGUMENT', `a regular expression of more than ${maxLength} characters`);
    }
    try {
      void new RegExp(pattern, 'u');
    } catch (error) {
      throw new SnapshotError('ERR_SNAPSHOT_ARGUMENT', errorMessage(error), { cause: error });
    }
    this.#pattern = pattern;
  }

  /** Which of the values it matches somewhere. Errors: ERR_SNAPSHOT_ARGUMENT when that takes too long. */
  test(values: readonly string[]): readonly boolean[] {
    const context = createContext({ pattern: this.#pattern, values });
    try {
      // Only in a context of its own can V8 be told when to give up.
      return runInContext('const p = new RegExp(pattern, "u"); values.map((value) => p.test(value))', context, {
        timeout: timeoutMs,
      }) as boolean[];
    } catch (error) {
      if (!isTimeout(error)) throw error;
      const shown = JSON.stringify(this.#pattern.slice(0, 200));
      throw new SnapshotError('ERR_SNAPSHOT_ARGUMENT', `the regular expression ${shown} takes too long`, {
        cause: error,
      });
    }
  }
}

/** The error belongs to the context, where `Error` is another class. */
function isTimeout(error: unknown): boolean {
  return (
    typeof error === 'object' && error !== null && 'code' in error && error.code === 'ERR_SCRIPT_EXECUTION_TIMEOUT'
  );
}
