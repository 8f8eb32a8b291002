import { UsageError } from './errors.ts';

/** An error in what a person typed is wrong usage, whichever parser found it. */
export function usage<T>(parse: () => T): T {
  try {
    return parse();
  } catch (cause) {
    throw new UsageError(cause instanceof Error ? cause.message : String(cause), { cause });
  }
}
