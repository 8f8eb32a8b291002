import { ConfigError } from './errors.ts';
import type { ConfigErrorCode } from './errors.ts';

/** One thing that is wrong with a configuration. */
export interface ConfigProblem {
  /** The file, or the variable or option that the value is from: `PEEL_LOG_LEVEL`, `--root`. */
  readonly source: string;
  /** From 1; undefined when the key has no line of its own. */
  readonly line?: number | undefined;
  /** From 1; only of text that is no TOML. */
  readonly column?: number | undefined;
  /** As TOML writes it. */
  readonly key?: string | undefined;
  /** `expected true or false, not "yes"`. */
  readonly what: string;
}

const mostShown = 50;

/** One error for all of them, one line each. */
export function problemsError(
  problems: readonly ConfigProblem[],
  code: ConfigErrorCode = 'ERR_CONFIG_FILE',
): ConfigError {
  const lines = problems.slice(0, mostShown).map(showProblem);
  if (problems.length > mostShown) lines.push(`and ${problems.length - mostShown} more`);
  return new ConfigError(code, lines.join('\n'), { problems: problems.slice(0, mostShown) });
}

function showProblem({ source, line, column, key, what }: ConfigProblem): string {
  const place = [source, line, column].filter((part) => part !== undefined).join(':');
  return [place, key, what].filter((part) => part !== undefined).join(': ');
}
