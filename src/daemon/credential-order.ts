import type { Logger } from '../observe/log.ts';
import { sameCredentials } from '../registry/auth/credentials.ts';
import type { CredentialSource, Credentials, LookupOptions } from '../registry/auth/credentials.ts';
import type { RememberedSecrets } from './remembered-secrets.ts';

export interface NamedSource {
  readonly name: string;
  readonly source: CredentialSource;
}

const maxSaid = 1_000;

/**
 * What a repository was pulled with decides; then the first of `sources` that knows the registry. What was remembered and is refused makes
 * way for something else that a source knows, and is forgotten then. A source that fails is passed over, as by a kubelet: other
 * images than those it is for can still be had. Lookups fail only by their signal.
 */
export function daemonSource(
  remembered: RememberedSecrets,
  sources: readonly NamedSource[],
  log: Logger,
): CredentialSource {
  const said = new Set<string>();
  const warn = (name: string, host: string, error: unknown) => {
    const message = error instanceof Error ? error.message : String(error);
    const what = `${name} ${host} ${message}`;
    if (said.size >= maxSaid) said.clear();
    if (said.has(what)) return;
    said.add(what);
    log.warn({ source: name, host }, `credentials are looked for elsewhere: ${message}`);
  };
  const lookupIn = async (host: string, options: LookupOptions | undefined): Promise<Credentials | undefined> => {
    for (const { name, source } of sources) {
      try {
        const found = await source.lookup(host, options);
        if (found !== undefined) return found;
      } catch (error) {
        options?.signal?.throwIfAborted();
        warn(name, host, error);
      }
    }
    return undefined;
  };
  return {
    lookup: async (host, options) => {
      const { repository, fresh } = options ?? {};
      const kept = repository === undefined ? undefined : remembered.get(host, repository, { fresh });
      if (kept !== undefined && !kept.refused) return kept.credentials;
      const other = await lookupIn(host, options);
      if (kept === undefined || repository === undefined) return other;
      if (other === undefined || sameCredentials(other, kept.credentials)) return kept.credentials;
      remembered.forget(host, repository, kept.credentials);
      return other;
    },
  };
}
