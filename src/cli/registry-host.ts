import { isRegistryHost } from '../oci/reference.ts';
import { UsageError } from './errors.ts';

/** A registry as people type it: `ghcr.io`, `localhost:5000`, also with `https://` in front. Errors: UsageError. */
export function registryHost(typed: string): string {
  const host = typed.replace(/^https?:\/\//, '').replace(/\/+$/, '');
  if (!isRegistryHost(host)) throw new UsageError(`${typed}: not a registry host`);
  return host === 'index.docker.io' ? 'docker.io' : host;
}
