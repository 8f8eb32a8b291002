// What `peel registry serve` serves: a store, perhaps as the cache of another registry, behind what the options forbid.
import { readEnvironment } from '../config/environment.ts';
import { createLog } from '../observe/log.ts';
import { isRepository } from '../oci/reference.ts';
import { DirRegistry } from '../registry/dir-registry.ts';
import { immutableTags } from '../registry/filter/immutable-tags.ts';
import { readOnly } from '../registry/filter/read-only.ts';
import { subPath } from '../registry/filter/sub-path.ts';
import type { Registry } from '../registry/interface.ts';
import type { PullThroughEvent } from '../registry/pull-through.ts';
import { isReferrersTag } from '../registry/referrers-tag.ts';
import { type AccessOptions, accessOf } from './access-options.ts';
import type { CliContext } from './context.ts';
import { UsageError } from './errors.ts';
import { registryHost } from './registry-host.ts';

export interface ServedOptions extends AccessOptions {
  readonly pullThrough?: string;
  readonly readOnly?: true;
  readonly immutableTags?: true;
}

/** Disposed, it ends the downloads that are under way. */
export interface ServedRegistry extends AsyncDisposable {
  readonly registry: Registry;
}

/** Errors: UsageError; RegistryError for hosts.toml. */
export async function servedRegistry(
  context: CliContext,
  root: string,
  options: ServedOptions,
): Promise<ServedRegistry> {
  const store = new DirRegistry(root);
  // What a killed process left behind is put right before anybody asks.
  if (options.readOnly === undefined) await store.repair({ signal: context.signal });
  const cache =
    options.pullThrough === undefined ? undefined : await cacheOf(context, options.pullThrough, store, options);
  let registry = cache?.registry ?? store;
  // The lists under these tags are how clients of old registries keep what refers to an image.
  if (options.immutableTags) registry = immutableTags(registry, { match: (_repository, tag) => !isReferrersTag(tag) });
  if (options.readOnly) registry = readOnly(registry);
  return { registry, [Symbol.asyncDispose]: async () => await cache?.[Symbol.asyncDispose]() };
}

async function cacheOf(
  context: CliContext,
  typed: string,
  store: Registry,
  options: AccessOptions,
): Promise<ServedRegistry> {
  const { host, prefix } = upstreamOf(typed);
  const log = createLog({ level: context.options.logLevel });
  const { connectRegistry } = await import('../daemon/connect-registry.ts');
  const { pullThrough } = await import('../registry/pull-through.ts');
  const connected = await connectRegistry(host, {
    environment: readEnvironment(),
    access: await accessOf(context, options),
    onWarning: (warning) => log.warn({ host }, warning),
  });
  const onEvent = (event: PullThroughEvent) => {
    if (event.kind === 'stale')
      log.warn({ host, what: event.what, error: event.error }, 'answered with what was last known');
    else
      log.error(
        { action: event.action, error: event.error },
        'the store does not work: content is passed on and not kept',
      );
  };
  const upstream = prefix === undefined ? connected.registry : subPath(connected.registry, prefix);
  const registry = pullThrough(upstream, store, { onEvent });
  return {
    registry,
    [Symbol.asyncDispose]: async () => {
      await registry.close();
      await connected.close();
    },
  };
}

/** `REGISTRY[/PREFIX]`. Errors: UsageError. */
function upstreamOf(typed: string): { readonly host: string; readonly prefix: string | undefined } {
  const [host = '', ...path] = typed
    .replace(/^https?:\/\//, '')
    .replace(/\/+$/, '')
    .split('/');
  if (path.length === 0) return { host: registryHost(host), prefix: undefined };
  const prefix = path.join('/');
  if (!isRepository(prefix)) throw new UsageError(`--pull-through ${typed}: ${prefix} is no prefix of repositories`);
  return { host: registryHost(host), prefix };
}
