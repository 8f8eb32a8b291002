import { setTimeout as delay } from 'node:timers/promises';
import { LRUCache } from 'lru-cache';
import type { Logger } from '../../../observe/log.ts';
import type { BackoffPolicy } from '../../../util/backoff.ts';
import { untilAborted } from '../../../util/until-aborted.ts';
import { credentialsAt, hostsOf, keysOf } from '../auth-config.ts';
import { sameCredentials } from '../credentials.ts';
import type { CredentialSource, Credentials, LookupOptions } from '../credentials.ts';
import { KubeClient } from './kube-client.ts';
import { pullSecretTypes } from './secret-list.ts';
import type { KubeSecret, PullSecretType } from './secret-list.ts';
import { SecretWatch } from './secret-watch.ts';

export interface KubePullSecretsOptions {
  /** The path of a kubeconfig; it need not exist yet. */
  readonly kubeconfig: string;
  /** What login programs find in their environment besides what the kubeconfig says. */
  readonly env: Readonly<Record<string, string>>;
  readonly log: Logger;
  readonly backoff?: Pick<BackoffPolicy, 'baseMs' | 'maxMs'> | undefined;
  readonly now?: (() => number) | undefined;
}

/** How long a lookup waits for the first list. */
const firstWaitMs = 5_000;
const defaultBackoff = { baseMs: 500, maxMs: 60_000 };
const maxRefusals = 1_000;

/**
 * The pull secrets of a cluster, kept up to date by a watch. Which pod wants an image is not known here, so several secrets may be for
 * it: the one whose key says most of the repository first, then the newest; one that is refused makes way for the next.
 */
export class KubePullSecrets implements CredentialSource {
  readonly #client: KubeClient;
  readonly #watches: readonly SecretWatch[];
  /** What was handed out for a repository and refused, in order. */
  readonly #refused = new LRUCache<string, readonly Credentials[]>({ max: maxRefusals });
  readonly #last = new LRUCache<string, Credentials>({ max: maxRefusals });
  #byHost: { readonly changes: number; readonly hosts: ReadonlyMap<string, readonly KubeSecret[]> } | undefined;

  /** Starts to list and watch; `close` ends it. */
  constructor(options: KubePullSecretsOptions) {
    const { log, backoff = defaultBackoff } = options;
    this.#client = new KubeClient(options);
    const types = Object.keys(pullSecretTypes) as PullSecretType[];
    this.#watches = types.map((type) => new SecretWatch({ client: this.#client, type, log, backoff }));
  }

  /** From memory. No errors but the signal's reason. */
  async lookup(host: string, options: LookupOptions = {}): Promise<Credentials | undefined> {
    await this.#first(options.signal);
    const scope = `${host}/${options.repository ?? ''}`;
    const candidates = this.#candidates(host, options.repository);
    const last = this.#last.get(scope);
    if (options.fresh === true && last !== undefined)
      this.#refused.set(scope, [...(this.#refused.get(scope) ?? []), last]);
    const refused = this.#refused.get(scope) ?? [];
    let found = candidates.find((one) => !refused.some((other) => sameCredentials(one, other)));
    // All were refused: perhaps the registry was wrong, so it begins anew.
    if (found === undefined) {
      this.#refused.delete(scope);
      found = candidates[0];
    }
    if (found !== undefined) this.#last.set(scope, found);
    return found;
  }

  /** Reads the kubeconfig again and lists all secrets. */
  restart(): void {
    this.#refused.clear();
    for (const watch of this.#watches) watch.restart();
  }

  /** Idempotent. */
  async close(): Promise<void> {
    await Promise.all(this.#watches.map((watch) => watch.close()));
    await this.#client.close();
  }

  async #first(signal: AbortSignal | undefined): Promise<void> {
    const enough = new AbortController();
    const all = Promise.all(this.#watches.map(({ first }) => first));
    const limit = delay(firstWaitMs, undefined, { signal: enough.signal }).catch(() => undefined);
    try {
      await untilAborted(Promise.race([all, limit]), signal);
    } finally {
      enough.abort();
    }
  }

  #candidates(host: string, repository: string | undefined): Credentials[] {
    const secrets = this.#secretsFor(host);
    return keysOf(host, repository).flatMap((key) =>
      secrets.map((secret) => credentialsIn(secret, key)).filter((found) => found !== undefined),
    );
  }

  /** The newest first. */
  #secretsFor(host: string): readonly KubeSecret[] {
    const changes = this.#watches.reduce((sum, watch) => sum + watch.changes, 0);
    if (this.#byHost?.changes !== changes) {
      const hosts = new Map<string, KubeSecret[]>();
      const all = this.#watches.flatMap(({ secrets }) => [...secrets.values()]);
      const newestFirst = (a: KubeSecret, b: KubeSecret) =>
        (a.createdAt === b.createdAt ? a.name < b.name : a.createdAt > b.createdAt) ? -1 : 1;
      for (const secret of all.sort(newestFirst)) {
        for (const name of hostsOf(secret.config)) hosts.set(name, [...(hosts.get(name) ?? []), secret]);
      }
      this.#byHost = { changes, hosts };
    }
    return this.#byHost.hosts.get(host) ?? [];
  }
}

/** An entry that is damaged is one that is not there: others may do. */
function credentialsIn({ config }: KubeSecret, key: string): Credentials | undefined {
  try {
    return credentialsAt(config, key);
  } catch {
    return undefined;
  }
}
