import path from 'node:path';
import { isDigest } from '../../oci/digest.ts';
import type { Digest } from '../../oci/digest.ts';
import { maxManifestBytes } from '../../oci/manifest.ts';
import { isIndexType, isManifestType } from '../../oci/media-type.ts';
import { allNamesIn } from '../../util/all-names-in.ts';
import { statIfPresent } from './content-pool.ts';
import type { ContentPool } from './content-pool.ts';
import { readIfPresent } from './durable-file.ts';
import type { GarbageOptions, GarbageReport } from './garbage-report.ts';
import { GarbageTally } from './garbage-tally.ts';
import type { LayoutIndex } from '../layout/layout-index.ts';
import { manifestNode } from './manifest-graph.ts';
import type { ManifestStore } from './manifest-store.ts';
import type { StorePaths } from './paths.ts';
import { RepositoryCollector, removeIfEmpty } from './repository-collector.ts';
import { namesIn, repositoriesOf, visitFolders } from './repository-folders.ts';
import type { RepositoryLocks } from './repository-locks.ts';
import { isTagEntry } from './tag-index.ts';

/** What a store on disk is made of. */
export interface StoreParts {
  readonly paths: StorePaths;
  readonly pool: ContentPool;
  readonly manifests: ManifestStore;
  readonly locks: RepositoryLocks;
  readonly layout: LayoutIndex;
}

/** Each repository is judged and cleaned while nobody changes it; then the pool forgets what no repository has. Errors: those of `DirRegistry.collectGarbage`. */
export async function collectGarbage(store: StoreParts, options: GarbageOptions): Promise<GarbageReport> {
  const { paths, manifests, locks } = store;
  const tally = new GarbageTally(options);
  // Read first: what cannot be understood ends the run before anything is removed.
  const others = await neededByOthers(store);
  let repositories = 0;
  for (const repository of await repositoriesOf(paths)) {
    const collector = new RepositoryCollector(repository, paths, manifests, tally);
    if (await collector.run(locks, { untagged: options.untagged === true })) repositories += 1;
  }
  if (!tally.dryRun) await removeEmptyNames(store, options);
  await collectPool(store, others, tally);
  if ((await statIfPresent(paths.root)) !== undefined)
    await store.layout.locked(options, async () => void (await tally.removeTemporary(paths.root)));
  return { ...tally.counts(), repositories };
}

/** Folders that only led to repositories which are gone. */
async function removeEmptyNames({ paths, locks }: StoreParts, options: GarbageOptions): Promise<void> {
  await visitFolders(paths, async (name, own) => {
    if (name === '' || own.length > 0) return;
    using _alone = await locks.enter(name, 'exclusive', options);
    await removeIfEmpty(paths.repository(name));
  });
}

async function collectPool(store: StoreParts, others: ReadonlySet<Digest>, tally: GarbageTally): Promise<void> {
  for (const algorithm of (await namesIn(store.paths.blobs)) ?? []) {
    const dir = path.join(store.paths.blobs, algorithm);
    for (const name of (await allNamesIn(dir)) ?? []) {
      tally.signal?.throwIfAborted();
      const [, hex, half] = /^\.?([0-9a-f]{64,128})(\.[0-9a-f]{16}\.tmp)?$/.exec(name) ?? [];
      const digest = `${algorithm}:${hex}`;
      if (!isDigest(digest)) await tally.removeIfOld('temporary', path.join(dir, name));
      else if (half !== undefined) await finishDrop(store, path.join(dir, name), digest, tally);
      else if (!others.has(digest)) await dropContent(store, digest, tally);
    }
  }
}

async function dropContent({ paths, pool }: StoreParts, digest: Digest, tally: GarbageTally): Promise<void> {
  const found = await statIfPresent(paths.pool(digest));
  if (found === undefined || !tally.isOld(found) || found.nlink - tally.wouldUnlink(digest) > 1) return;
  const freed = tally.dryRun ? found.size : await pool.drop(digest);
  if (freed !== undefined) tally.add('content', freed);
}

async function finishDrop({ pool }: StoreParts, file: string, digest: Digest, tally: GarbageTally): Promise<void> {
  const freed = tally.dryRun ? undefined : await pool.finishDrop(file, digest);
  if (freed !== undefined) tally.add('content', freed);
}

/** What the entries of index.json lead to that are not ours: other tools may keep images here as well. */
async function neededByOthers({ paths, layout }: StoreParts): Promise<Set<Digest>> {
  const needed = new Set<Digest>();
  const waiting: { readonly digest: Digest; readonly mediaType: string }[] = [
    ...(await layout.select((entry) => !isTagEntry(entry))),
  ];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    if (needed.has(next.digest)) continue;
    needed.add(next.digest);
    if (!isManifestType(next.mediaType) && !isIndexType(next.mediaType)) continue;
    const file = paths.pool(next.digest);
    const found = await statIfPresent(file);
    const bytes = found === undefined || found.size > maxManifestBytes ? undefined : await readIfPresent(file);
    if (bytes !== undefined) waiting.push(...manifestNode(bytes, next.mediaType).needs);
  }
  return needed;
}
