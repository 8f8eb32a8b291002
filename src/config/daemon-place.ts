// Where the daemon of this machine is to be found by whoever was not told.
import { existsSync } from 'node:fs';
import { isAbsolute, join, resolve } from 'node:path';
import type { Environment } from './environment.ts';
import { defaultConfigFile, defaultRoot, usualRunDir } from './paths.ts';

export interface DaemonPlace {
  /** Path of its control socket. */
  readonly control: string;
  /** Path of the socket of the process that holds its file descriptors. */
  readonly keeper: string;
  /** Its state directory. */
  readonly root: string;
}

export interface DaemonPlaceOptions {
  /** `--root` */
  readonly root?: string | undefined;
  readonly environment: Environment;
  readonly uid: number;
  /** Default: the one that the daemon reads when none is named. */
  readonly configFile?: string | undefined;
}

/** As the daemon's configuration says, where there is one that can be read and PEEL_RUN_DIR names no other place. Never fails. */
export async function daemonPlace(options: DaemonPlaceOptions): Promise<DaemonPlace> {
  const { environment, uid, configFile = defaultConfigFile } = options;
  const said = environment.peelRunDir === undefined ? await placeIn(configFile) : {};
  const chosen = options.root ?? environment.peelRoot ?? said.root;
  const root = resolve(chosen ?? defaultRoot({ environment, uid }));
  const runDir = said.runDir ?? usualRunDir({ environment, uid }) ?? join(root, 'run');
  return { control: said.control ?? join(runDir, 'control.sock'), keeper: join(runDir, 'keeper.sock'), root };
}

interface SaidPlace {
  readonly root?: string | undefined;
  readonly runDir?: string | undefined;
  readonly control?: string | undefined;
}

/** Only these keys are looked at: checking all of them takes longer than most of what is asked of the daemon, which has checked them. */
async function placeIn(configFile: string): Promise<SaidPlace> {
  // What reads it takes a while to load, and most machines have none.
  if (!existsSync(configFile)) return {};
  const [{ readConfigFile }, { parse }] = await Promise.all([import('./read-config-file.ts'), import('smol-toml')]);
  try {
    const { root, run_dir: runDir, control } = parse(await readConfigFile(configFile));
    const socket = typeof control === 'object' && 'socket' in control ? control['socket'] : undefined;
    return { root: directory(root), runDir: directory(runDir), control: directory(socket) };
  } catch {
    // Who starts the daemon with it is told what is wrong.
    return {};
  }
}

/** The schema takes no other paths. */
function directory(value: unknown): string | undefined {
  return typeof value === 'string' && isAbsolute(value) ? resolve(value) : undefined;
}
