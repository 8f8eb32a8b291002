import { resolve } from 'node:path';
import { dockerConfigFile } from '../config/docker-config-file.ts';
import type { Environment } from '../config/environment.ts';
import type { Origin } from '../image/origin.ts';
import type { Logger } from '../observe/log.ts';
import type { Reference } from '../oci/reference.ts';
import { LayoutRegistry } from '../registry/layout-registry.ts';
import { defaultBackoff } from '../util/backoff.ts';
import type { RemoteRegistry } from '../registry/remote-registry.ts';
import type { RegistryAccess } from './registry-access.ts';

export interface OriginsOptions {
  readonly environment: Environment;
  readonly log: Logger;
  readonly access?: RegistryAccess | undefined;
}

/** Connections to registries, one client per host, opened when first needed. */
export class Origins {
  readonly #options: OriginsOptions;
  readonly #clients = new Map<string, Promise<RemoteRegistry>>();

  constructor(options: OriginsOptions) {
    this.#options = options;
  }

  readonly open = async (reference: Reference): Promise<Origin> => {
    if (reference.kind === 'layout') {
      const dir = resolve(reference.dir);
      const registry = new LayoutRegistry(dir);
      return {
        registry,
        repository: 'layout',
        name: `oci:${dir}`,
        remote: false,
        resolveDefault: () => registry.resolveDefault(),
      };
    }
    if (reference.kind === 'archive') {
      const { LayoutArchive } = await import('../registry/layout-archive.ts');
      const registry = await LayoutArchive.open(reference.file);
      return {
        registry,
        repository: 'layout',
        name: `oci-archive:${registry.file}`,
        remote: false,
        resolveDefault: () => registry.resolveDefault(),
      };
    }
    const { host, repository } = reference;
    const client = this.#clients.get(host) ?? this.#connect(host);
    this.#clients.set(host, client);
    return { registry: await client, repository, name: `${host}/${repository}`, remote: true };
  };

  async close(): Promise<void> {
    for (const client of this.#clients.values()) await (await client).close();
    this.#clients.clear();
  }

  async #connect(host: string): Promise<RemoteRegistry> {
    // The HTTP client takes a tenth of a second to load; an image that is all here does not need it.
    const { RemoteRegistry } = await import('../registry/remote-registry.ts');
    const { DockerCredentials } = await import('../registry/auth/docker-config.ts');
    const { environment, log, access } = this.#options;
    const configFile = dockerConfigFile(environment);
    const credentials = access?.credentials;
    return new RemoteRegistry({
      host,
      // Reads have their own deadline and try again until it: the reason of a failure must come back before.
      backoff: { ...defaultBackoff, attempts: 3 },
      credentials:
        credentials === undefined
          ? new DockerCredentials({ configFile })
          : { lookup: () => Promise.resolve(credentials) },
      onWarning: (warning) => log.warn({ host }, warning),
    });
  }
}
