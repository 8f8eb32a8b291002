import { homedir } from 'node:os';
import { join } from 'node:path';
import { dockerConfigFile } from './docker-config-file.ts';
import type { Environment } from './environment.ts';

/** Where a user's registry credentials may be; the first place that knows a registry decides. */
export interface CredentialPlaces {
  /** The text of a docker configuration, from the variable named `inlineName`. */
  readonly inline: string | undefined;
  readonly inlineName: string;
  /** Docker's configuration, then podman's; none of them need exist. */
  readonly files: readonly string[];
}

/**
 * Podman's files are those of containers-auth.json(5): `REGISTRY_AUTH_FILE` stands for the primary one, which is kept with the boot,
 * and the user's own file is read after it in any case.
 */
export function credentialPlaces(environment: Environment, uid: number): CredentialPlaces {
  const { dockerAuthConfig, registryAuthFile, xdgRuntimeDir, xdgConfigHome, home } = environment;
  const runtime = xdgRuntimeDir === undefined ? `/run/containers/${uid}` : join(xdgRuntimeDir, 'containers');
  const configHome = xdgConfigHome ?? join(home ?? homedir(), '.config');
  return {
    inline: dockerAuthConfig,
    inlineName: 'DOCKER_AUTH_CONFIG',
    files: [
      dockerConfigFile(environment),
      registryAuthFile ?? join(runtime, 'auth.json'),
      join(configHome, 'containers', 'auth.json'),
    ],
  };
}
