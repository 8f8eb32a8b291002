import { join } from 'node:path';

/** Of the layers that containerd's snapshots show, one directory each. */
export function layerMountsDir(root: string): string {
  return join(root, 'l');
}
