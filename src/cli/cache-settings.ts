import type { CacheSettings } from '../config/cache-bounds.ts';
import type { CliContext } from './context.ts';

/** Those of the configuration file of this machine's daemon; the defaults, with a warning, when it cannot be used. */
export async function cacheSettings({ warn }: CliContext): Promise<CacheSettings> {
  const { loadConfig } = await import('../config/load-config.ts');
  try {
    return (await loadConfig(undefined)).cache;
  } catch (error) {
    warn(`${error instanceof Error ? error.message : String(error)}: the cache gets its usual bounds`);
    const { configSchema } = await import('../config/schema.ts');
    return configSchema.parse({}).cache;
  }
}
