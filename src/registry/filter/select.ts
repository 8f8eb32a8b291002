import { RegistryError } from '../errors.ts';
import type { Registry } from '../interface.ts';
import { accessPolicy, catalogName } from './access-policy.ts';

/**
 * The repositories that `allow` is true for. The others are left out of the catalog and are NAME_UNKNOWN to whoever reads, as if they did not
 * exist; writing and deleting there is DENIED. Mounting needs both repositories.
 */
export function select(registry: Registry, allow: (repository: string) => boolean | Promise<boolean>): Registry {
  return accessPolicy(registry, async (repository, kind) => {
    if (repository === catalogName || (await allow(repository))) return true;
    if (kind === 'write' || kind === 'delete') return false;
    throw new RegistryError('NAME_UNKNOWN', `repository ${repository} not found`);
  });
}
