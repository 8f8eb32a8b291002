import { readFile } from 'node:fs/promises';
import { parse } from 'smol-toml';
import { readEnvironment } from './environment.ts';
import { configSchema } from './schema.ts';
import type { DaemonConfig } from './schema.ts';

/** Defaults, then the file, then PEEL_* variables, then `overrides`. */
export async function loadConfig(
  file: string | undefined,
  overrides: { readonly root?: string | undefined; readonly logLevel?: string | undefined } = {},
): Promise<DaemonConfig> {
  const document = file === undefined ? {} : parse(await readFile(file, 'utf8'));
  const { peelRoot, peelRunDir, peelLogLevel } = readEnvironment();
  const root = overrides.root ?? peelRoot;
  const level = overrides.logLevel ?? peelLogLevel;
  return configSchema.parse({
    ...document,
    ...(root === undefined ? {} : { root }),
    ...(peelRunDir === undefined ? {} : { run_dir: peelRunDir }),
    ...(level === undefined ? {} : { log: { level } }),
  });
}
