import { homedir } from 'node:os';
import { join } from 'node:path';
import type { Environment } from './environment.ts';

/** Docker's client configuration of this user, where credentials are kept; it need not exist. */
export function dockerConfigFile({ dockerConfigDir, home }: Environment): string {
  return join(dockerConfigDir ?? join(home ?? homedir(), '.docker'), 'config.json');
}
