// Where the daemon of this machine is to be found by whoever was not told.
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Environment } from './environment.ts';
import { defaultConfigFile, defaultRoot, usualRunDir } from './paths.ts';

export interface DaemonPlace {
  /** Path of its control socket. */
  readonly control: string;
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
  // What reads it takes a while to load, and most machines have none.
  if (environment.peelRunDir === undefined && existsSync(configFile)) {
    const [{ loadConfig }, { socketPaths }] = await Promise.all([import('./load-config.ts'), import('./sockets.ts')]);
    try {
      const config = await loadConfig(configFile, { root: options.root, environment, uid });
      return { control: socketPaths(config).control, root: config.root };
    } catch {
      // Who starts the daemon with it is told what is wrong.
    }
  }
  const root = resolve(options.root ?? defaultRoot({ environment, uid }));
  const runDir = usualRunDir({ environment, uid }) ?? join(root, 'run');
  return { control: join(runDir, 'control.sock'), root };
}
