import { resolve } from 'node:path';
import type { Environment } from './environment.ts';

/** Folders that say how registries are reached, the first with anything about one counts: PEEL_CERTS_DIR (like PATH), else the usual ones. */
export function certsDirs({ peelCertsDir }: Environment): string[] {
  if (peelCertsDir === undefined) return ['/etc/peel/certs.d', '/etc/containerd/certs.d', '/etc/docker/certs.d'];
  return peelCertsDir
    .split(':')
    .filter((dir) => dir !== '')
    .map((dir) => resolve(dir));
}
