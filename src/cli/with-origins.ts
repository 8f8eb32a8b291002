import { readEnvironment } from '../config/environment.ts';
import type { Origins } from '../daemon/origins.ts';
import type { RegistryAccess } from '../daemon/registry-access.ts';
import { createLog } from '../observe/log.ts';
import type { CliContext } from './context.ts';

/** Connections to registries for a command that needs nothing else of a node; ended whatever happens. */
export async function withOrigins<T>(
  context: CliContext,
  access: RegistryAccess,
  use: (origins: Origins) => Promise<T>,
): Promise<T> {
  const { Origins } = await import('../daemon/origins.ts');
  const log = createLog({ level: context.options.logLevel });
  const origins = new Origins({ environment: readEnvironment(), log, access });
  try {
    return await use(origins);
  } finally {
    await origins.close();
  }
}
