import { resolve } from 'node:path';
import type { Environment } from '../config/environment.ts';
import type { Origin } from '../image/origin.ts';
import type { Logger } from '../observe/log.ts';
import { formatReference } from '../oci/reference.ts';
import type { Reference } from '../oci/reference.ts';
import type { CredentialSource } from '../registry/auth/credentials.ts';
import { LayoutRegistry } from '../registry/layout-registry.ts';
import { defaultBackoff } from '../util/backoff.ts';
import type { EndpointStatus } from '../registry/client/circuit-breaker.ts';
import type { ConnectedRegistry } from './connect-registry.ts';
import type { RegistryAccess } from './registry-access.ts';

export interface OriginsOptions {
  readonly environment: Environment;
  /** Bytes of bodies that arrived. */
  readonly onBytes?: ((bytes: number) => void) | undefined;
  readonly log: Logger;
  readonly access?: RegistryAccess | undefined;
  /** Default those that this process's user has stored. */
  readonly credentials?: CredentialSource | undefined;
  /** A registry, or one of its mirrors, answers again after it was left alone; `host` as in a reference. */
  readonly onReturn?: ((host: string) => void) | undefined;
}

/** Of one endpoint of the registry `host`. */
export interface RegistryEndpoint extends EndpointStatus {
  readonly host: string;
}

/** Connections to registries, one client per host, opened when first needed. */
export class Origins {
  readonly #options: OriginsOptions;
  readonly #clients = new Map<string, Promise<ConnectedRegistry>>();
  readonly #connections = new Map<string, ConnectedRegistry>();

  constructor(options: OriginsOptions) {
    this.#options = options;
  }

  /** Errors: RegistryError with CONFIG_INVALID for hosts.toml or a proxy that cannot be used. */
  readonly open = async (reference: Reference): Promise<Origin> => {
    if (reference.kind === 'layout') {
      const dir = resolve(reference.dir);
      const registry = new LayoutRegistry(dir);
      return {
        registry,
        repository: '',
        name: formatReference({ ...reference, dir, tag: undefined, digest: undefined }),
        remote: false,
        resolveDefault: () => registry.resolveDefault(),
      };
    }
    if (reference.kind === 'archive') {
      const { LayoutArchive } = await import('../registry/layout-archive.ts');
      const registry = await LayoutArchive.open(reference.file);
      return {
        registry,
        repository: '',
        name: formatReference({ ...reference, file: registry.file, tag: undefined, digest: undefined }),
        remote: false,
        resolveDefault: () => registry.resolveDefault(),
      };
    }
    const { host, repository } = reference;
    const { registry, rateLimit } = await this.#connected(host);
    return { registry, repository, name: `${host}/${repository}`, remote: true, rateLimit };
  };

  /** Those of registries that were asked for something. */
  endpoints(): readonly RegistryEndpoint[] {
    return [...this.#connections].flatMap(([host, { endpoints }]) => endpoints().map((each) => ({ host, ...each })));
  }

  async close(): Promise<void> {
    const clients = [...this.#clients.values()];
    this.#clients.clear();
    this.#connections.clear();
    // One that could not be opened has nothing to close.
    for (const client of clients) await (await client.catch(() => undefined))?.close();
  }

  #connected(host: string): Promise<ConnectedRegistry> {
    let client = this.#clients.get(host);
    if (client === undefined) {
      client = this.#connect(host);
      this.#clients.set(host, client);
      // A file that is wrong may be put right.
      client.catch(() => this.#clients.delete(host));
    }
    return client;
  }

  async #connect(host: string): Promise<ConnectedRegistry> {
    const { environment, log, access, credentials, onReturn } = this.#options;
    // The HTTP client takes a tenth of a second to load; an image that is all here does not need it.
    const { connectRegistry } = await import('./connect-registry.ts');
    const connection = await connectRegistry(host, {
      environment,
      access,
      credentials,
      // Reads have their own deadline and try again until it: the reason of a failure must come back before.
      backoff: { ...defaultBackoff, attempts: 3 },
      onWarning: (warning) => log.warn({ host }, warning),
      onBytes: this.#options.onBytes,
      onEndpoint: ({ state, endpoint, failures, why }) => {
        if (state === 'answering') log.info({ host, endpoint }, 'registry answers again');
        else log.warn({ host, endpoint, failures, why }, 'registry is left alone for a while');
      },
      onReturn: () => onReturn?.(host),
    });
    this.#connections.set(host, connection);
    return connection;
  }
}
