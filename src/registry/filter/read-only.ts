import { RegistryError } from '../errors.ts';
import type { Registry } from '../interface.ts';
import { accessPolicy } from './access-policy.ts';

/** Reads and lists only. Errors: UNSUPPORTED for everything that would change something, which is 405 on the wire as in docker's registry. */
export function readOnly(registry: Registry): Registry {
  return accessPolicy(registry, (repository, kind) => {
    if (kind === 'read' || kind === 'list') return true;
    throw new RegistryError('UNSUPPORTED', `repository ${repository} cannot be changed: the registry is read-only`);
  });
}
