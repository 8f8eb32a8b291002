import { constants } from 'node:fs';
import { access, chmod, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { makeDirectory } from '../util/make-directory.ts';
import { ConfigError } from './errors.ts';
import type { Environment } from './environment.ts';

/** The daemon's configuration, read when no file is named; it need not exist. */
export const defaultConfigFile = '/etc/peel/config.toml';

export interface NodePaths {
  /** State: database, block cache, trees. Absolute, exists, 0700. */
  readonly root: string;
  /** Things that end with the boot: live bitmaps, mount logs, the probe's answer. Absolute, exists, 0700. */
  readonly runDir: string;
}

export interface PathOptions {
  /** `--root`; wins over `PEEL_ROOT`. */
  readonly root?: string | undefined;
  readonly environment: Environment;
  readonly uid: number;
}

/**
 * Finds and creates the two directories everything else lives in.
 * Errors: ERR_CONFIG_ROOT when the state directory cannot be made or written.
 */
export async function preparePaths(options: PathOptions): Promise<NodePaths> {
  const root = resolve(options.root ?? defaultRoot(options));
  await prepareRoot(root);
  return { root, runDir: await prepareRunDir(root, options) };
}

export function defaultRoot({ environment, uid }: Omit<PathOptions, 'root'>): string {
  if (environment.peelRoot !== undefined) return environment.peelRoot;
  if (uid === 0) return '/var/lib/peel';
  return join(environment.xdgCacheHome ?? join(environment.home ?? homedir(), '.cache'), 'peel');
}

/** Undefined where a user has none: then it is below the state directory. */
export function defaultRunDir({ environment, uid }: Omit<PathOptions, 'root'>): string | undefined {
  if (uid === 0) return '/run/peel';
  return environment.xdgRuntimeDir === undefined ? undefined : join(environment.xdgRuntimeDir, 'peel');
}

async function prepareRoot(root: string): Promise<void> {
  try {
    await makeDirectory(root, 0o700);
    if (!(await stat(root)).isDirectory()) throw new ConfigError('ERR_CONFIG_ROOT', `${root} is not a directory`);
    await access(root, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (cause) {
    if (cause instanceof ConfigError) throw cause;
    const why = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause);
    const hint = 'choose another with --root or PEEL_ROOT';
    throw new ConfigError('ERR_CONFIG_ROOT', `state directory ${root} cannot be written (${why}): ${hint}`, { cause });
  }
}

/** Where the run directory is, if it can be used; undefined where a user has no such place. */
export function usualRunDir({ environment, uid }: Omit<PathOptions, 'root'>): string | undefined {
  return environment.peelRunDir === undefined ? defaultRunDir({ environment, uid }) : resolve(environment.peelRunDir);
}

/** The usual place; under the state directory when neither of the usual ones can. */
async function prepareRunDir(root: string, { environment, uid }: PathOptions): Promise<string> {
  const usual = usualRunDir({ environment, uid });
  if (usual !== undefined && (await usable(usual, uid))) return usual;
  const fallback = join(root, 'run');
  await makeDirectory(fallback, 0o700);
  return fallback;
}

/** A run directory that somebody else owns could be used to feed us a false bitmap, so it is passed over. */
async function usable(dir: string, uid: number): Promise<boolean> {
  try {
    await makeDirectory(dir, 0o700);
    const found = await stat(dir);
    if (!found.isDirectory() || found.uid !== uid) return false;
    if ((found.mode & 0o077) !== 0) await chmod(dir, 0o700);
    await access(dir, constants.R_OK | constants.W_OK | constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
