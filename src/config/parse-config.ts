import { parse, TomlError } from 'smol-toml';
import { checkConfig } from './check-config.ts';
import type { Finding } from './check-config.ts';
import { valueAt } from './config-keys.ts';
import { conflictsOf } from './conflicts.ts';
import { deepFreeze } from './deep-freeze.ts';
import { KeyLines } from './key-lines.ts';
import type { KeyPath } from './key-path.ts';
import { showKey } from './key-path.ts';
import { problemsError } from './problem.ts';
import type { ConfigProblem } from './problem.ts';
import type { DaemonConfig } from './schema.ts';

/** A value from elsewhere than the file. */
export interface OtherValue {
  readonly path: KeyPath;
  readonly value: unknown;
  /** For messages: `PEEL_LOG_LEVEL`, `--root`. */
  readonly source: string;
}

export interface ConfigSources {
  readonly text: string;
  /** The file's name, for messages. */
  readonly file: string;
  /** What holds where the file says nothing, in place of the schema's defaults. */
  readonly defaults?: readonly OtherValue[] | undefined;
  /** What holds whatever the file says; a later one before an earlier one. */
  readonly overrides?: readonly OtherValue[] | undefined;
}

/** Errors: ERR_CONFIG_FILE with every problem of the file, or else of all sources together, on a line of its own. */
export function parseConfig({ text, file, defaults = [], overrides = [] }: ConfigSources): DaemonConfig {
  const document = parseToml(text, file);
  const lines = new KeyLines(text);
  const inFile = ({ path, key, what }: Finding): ConfigProblem => ({ source: file, line: lines.find(path), key, what });
  const alone = checkConfig(document);
  if ('findings' in alone) throw problemsError(alone.findings.map(inFile));

  const open = defaults.filter(({ path }) => valueAt(document, path) === undefined);
  const others = [...open, ...overrides];
  const sourceOf = (path: KeyPath) => others.findLast((other) => showKey(other.path) === showKey(path))?.source;
  const anywhere = (finding: Finding): ConfigProblem => {
    const source = sourceOf(finding.path);
    return source === undefined ? inFile(finding) : { source, key: finding.key, what: finding.what };
  };
  const checked = checkConfig(others.reduce((merged, { path, value }) => withValue(merged, path, value), document));
  if ('findings' in checked) throw problemsError(checked.findings.map(anywhere));
  const conflicts = conflictsOf(checked.config);
  if (conflicts.length > 0) {
    throw problemsError(conflicts.map(({ path, what }) => anywhere({ path, key: showKey(path), what })));
  }
  return deepFreeze(checked.config);
}

type Table = Readonly<Record<string, unknown>>;

function parseToml(text: string, file: string): Table {
  try {
    return parse(text);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    // The rest of the message draws the lines around.
    const why = (error.message.split('\n')[0] ?? '').replace(/^Invalid TOML document: /, '');
    const { line, column } = error;
    throw problemsError([{ source: file, line, column, what: `not valid TOML: ${why}` }]);
  }
}

function withValue(table: Table, [name = '', ...rest]: KeyPath, value: unknown): Table {
  const inner = rest.length === 0 ? value : withValue((valueAt(table, [name]) as Table | undefined) ?? {}, rest, value);
  return { ...table, [name]: inner };
}
