import { resolve } from 'node:path';
import { certsDirs } from './certs-dirs.ts';
import { formatsConflict } from './conflicts.ts';
import type { Environment } from './environment.ts';
import { readEnvironment } from './environment.ts';
import { KeyLines } from './key-lines.ts';
import { showKey } from './key-path.ts';
import { parseConfig } from './parse-config.ts';
import type { OtherValue } from './parse-config.ts';
import { defaultConfigFile, defaultRoot, usualRunDir } from './paths.ts';
import { problemsError } from './problem.ts';
import { readConfigFile } from './read-config-file.ts';
import type { DaemonConfig } from './schema.ts';

export interface ConfigOverrides {
  /** `--root` */
  readonly root?: string | undefined;
  /** `--log-level` */
  readonly logLevel?: string | undefined;
  /** Default: this process's. */
  readonly environment?: Environment | undefined;
  readonly uid?: number | undefined;
  /** Default: `defaultConfigFile`. */
  readonly defaultFile?: string | undefined;
}

/**
 * Defaults, then the file, then PEEL_* variables, then `overrides`; frozen. A `file` that is named must exist.
 * Errors: ERR_CONFIG_FILE with every problem on a line of its own: file, line, key, and what was expected.
 */
export async function loadConfig(
  file: string | undefined,
  { environment = readEnvironment(), uid = process.getuid?.() ?? 0, ...flags }: ConfigOverrides = {},
): Promise<DaemonConfig> {
  const name = file ?? flags.defaultFile ?? defaultConfigFile;
  return parseConfig({
    file: name,
    text: await readConfigFile(name, { mayMiss: file === undefined }),
    defaults: uid === 0 ? [] : userDefaults(environment, uid, flags.root ?? environment.peelRoot),
    overrides: [...fromEnvironment(environment), ...fromFlags(flags)],
  });
}

/**
 * A file by itself, without variables and options. Errors: ERR_CONFIG_FILE; ERR_CONFIG_FORMATS when it switches every index format off
 * while layers are to be served, which the daemon would put up with.
 */
export async function checkConfigFile(
  file: string = defaultConfigFile,
): Promise<{ readonly file: string; readonly config: DaemonConfig }> {
  const text = await readConfigFile(file);
  const config = parseConfig({ file, text });
  const conflict = formatsConflict(config);
  if (conflict === undefined) return { file, config };
  const { path, what } = conflict;
  const line = new KeyLines(text).find(path);
  throw problemsError([{ source: file, line, key: showKey(path), what }], 'ERR_CONFIG_FORMATS');
}

/** Of a user who is not root. */
function userDefaults(environment: Environment, uid: number, chosenRoot: string | undefined): OtherValue[] {
  const root = resolve(chosenRoot ?? defaultRoot({ environment, uid }));
  const runDir = usualRunDir({ environment, uid }) ?? resolve(root, 'run');
  return [
    { path: ['root'], value: root, source: 'the default' },
    { path: ['run_dir'], value: resolve(runDir), source: 'the default' },
  ];
}

function fromEnvironment(environment: Environment): OtherValue[] {
  const { peelRoot, peelRunDir, peelLogLevel, peelCertsDir } = environment;
  const dirs = peelCertsDir === undefined ? undefined : certsDirs(environment);
  return set([
    { path: ['root'], value: peelRoot && resolve(peelRoot), source: 'PEEL_ROOT' },
    { path: ['run_dir'], value: peelRunDir && resolve(peelRunDir), source: 'PEEL_RUN_DIR' },
    { path: ['log', 'level'], value: peelLogLevel, source: 'PEEL_LOG_LEVEL' },
    { path: ['registry', 'certs_dirs'], value: dirs, source: 'PEEL_CERTS_DIR' },
  ]);
}

function fromFlags({ root, logLevel }: Pick<ConfigOverrides, 'root' | 'logLevel'>): OtherValue[] {
  return set([
    { path: ['root'], value: root && resolve(root), source: '--root' },
    { path: ['log', 'level'], value: logLevel, source: '--log-level' },
  ]);
}

function set(values: readonly OtherValue[]): OtherValue[] {
  return values.filter(({ value }) => value !== undefined);
}
