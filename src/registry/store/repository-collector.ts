// Garbage collection of one repository, while nobody changes it.
import { rm, rmdir } from 'node:fs/promises';
import path from 'node:path';
import { isDigest } from '../../oci/digest.ts';
import type { Digest } from '../../oci/digest.ts';
import { allNamesIn } from '../../util/all-names-in.ts';
import { hasCode } from '../errors.ts';
import { statIfPresent } from './content-pool.ts';
import { readIfPresent, syncDirectory } from './durable-file.ts';
import type { GarbageTally } from './garbage-tally.ts';
import { manifestNode, reachedFrom } from './manifest-graph.ts';
import type { ManifestNode } from './manifest-graph.ts';
import { digestsIn } from './manifest-store.ts';
import type { ManifestStore } from './manifest-store.ts';
import type { StorePaths } from './paths.ts';
import { namesIn } from './repository-folders.ts';
import type { RepositoryLocks } from './repository-locks.ts';

type Nodes = Map<Digest, ManifestNode>;

export class RepositoryCollector {
  readonly #repository: string;
  readonly #paths: StorePaths;
  readonly #manifests: ManifestStore;
  readonly #tally: GarbageTally;

  constructor(repository: string, paths: StorePaths, manifests: ManifestStore, tally: GarbageTally) {
    this.#repository = repository;
    this.#paths = paths;
    this.#manifests = manifests;
    this.#tally = tally;
  }

  /** True when the repository is empty afterwards, and its folders are gone. */
  async run(locks: RepositoryLocks, options: { readonly untagged: boolean }): Promise<boolean> {
    const nodes: Nodes = new Map();
    // Read before the lock is taken, so that pushes wait only for what came since.
    await this.#readManifests(nodes);
    using _alone = await locks.enter(this.#repository, 'exclusive', { signal: this.#tally.signal });
    await this.#readManifests(nodes);
    const kept = options.untagged ? await this.#keptManifests(nodes) : new Set(nodes.keys());
    const needed = new Set([...kept].flatMap((digest) => nodes.get(digest)?.needs ?? []).map(({ digest }) => digest));
    for (const digest of nodes.keys()) if (!kept.has(digest)) await this.#removeManifest(digest);
    const left =
      kept.size +
      (await this.#collectReferrers(kept)) +
      (await this.#collectTypes()) +
      (await this.#collectBlobs(needed)) +
      (await this.#collectUploads()) +
      (await this.#collectTags());
    if (left === 0 && !this.#tally.dryRun) await this.#removeFolders();
    return left === 0;
  }

  /** Adds the manifests that are not known yet, and takes out those that are gone. */
  async #readManifests(nodes: Nodes): Promise<void> {
    const present = new Set(await this.#manifests.digests(this.#repository));
    for (const digest of nodes.keys()) if (!present.has(digest)) nodes.delete(digest);
    for (const digest of present) {
      this.#tally.signal?.throwIfAborted();
      if (nodes.has(digest)) continue;
      const bytes = await readIfPresent(this.#paths.manifest(this.#repository, digest));
      const mediaType = await readIfPresent(this.#paths.manifestType(this.#repository, digest));
      if (bytes !== undefined) nodes.set(digest, manifestNode(bytes, mediaType?.toString('utf8') ?? ''));
    }
  }

  async #keptManifests(nodes: Nodes): Promise<Set<Digest>> {
    const roots = new Set<Digest>();
    for (const tag of (await this.#manifests.tags(this.#repository)) ?? []) {
      try {
        const digest = await this.#manifests.tag(this.#repository, tag);
        if (digest !== undefined) roots.add(digest);
      } catch (error) {
        if (!hasCode(error, 'UNKNOWN')) throw error;
        // What a damaged tag named may be any of them.
        return new Set(nodes.keys());
      }
    }
    const tagged = reachedFrom(roots, nodes);
    for (const digest of nodes.keys()) {
      if (tagged.has(digest)) continue;
      if (!(await this.#tally.isOldFile(this.#paths.manifest(this.#repository, digest)))) roots.add(digest);
    }
    return reachedFrom(roots, nodes);
  }

  /** Durably, before the blobs that it needs. */
  async #removeManifest(digest: Digest): Promise<void> {
    const file = this.#paths.manifest(this.#repository, digest);
    await this.#tally.unlink('manifests', file, digest);
    if (this.#tally.dryRun) return;
    await syncDirectory(path.dirname(file));
    await rm(this.#paths.manifestType(this.#repository, digest), { force: true });
  }

  async #collectReferrers(kept: ReadonlySet<Digest>): Promise<number> {
    let left = 0;
    for (const subject of await digestsIn(this.#paths.allReferrers(this.#repository))) {
      const dir = this.#paths.referrers(this.#repository, subject);
      for (const name of (await namesIn(dir)) ?? []) {
        const digest = name.replace('-', ':');
        if (isDigest(digest) && kept.has(digest)) left += 1;
        else await this.#tally.remove('referrers', path.join(dir, name));
      }
      left += await this.#tally.removeTemporary(dir);
      if (!this.#tally.dryRun) await removeIfEmpty(dir);
    }
    return left;
  }

  /** Media types whose manifest never came, or went. */
  async #collectTypes(): Promise<number> {
    let left = 0;
    const dir = this.#paths.manifests(this.#repository);
    for (const algorithm of (await namesIn(dir)) ?? []) {
      for (const name of (await namesIn(path.join(dir, algorithm))) ?? []) {
        const digest = `${algorithm}:${name.replace(/\.type$/, '')}`;
        if (!name.endsWith('.type') || !isDigest(digest)) continue;
        if ((await statIfPresent(this.#paths.manifest(this.#repository, digest))) !== undefined) continue;
        left += await this.#tally.removeIfOld('temporary', path.join(dir, algorithm, name));
      }
      left += await this.#tally.removeTemporary(path.join(dir, algorithm));
    }
    return left;
  }

  async #collectBlobs(needed: ReadonlySet<Digest>): Promise<number> {
    let left = 0;
    for (const digest of await digestsIn(this.#paths.ownBlobs(this.#repository))) {
      this.#tally.signal?.throwIfAborted();
      const file = this.#paths.blob(this.#repository, digest);
      if (!needed.has(digest) && (await this.#tally.isOldFile(file))) await this.#tally.unlink('blobs', file, digest);
      else left += 1;
    }
    return left;
  }

  async #collectUploads(): Promise<number> {
    let left = 0;
    const dir = this.#paths.uploads(this.#repository);
    for (const id of (await allNamesIn(dir)) ?? [])
      left += await this.#tally.removeIfOld('uploads', path.join(dir, id));
    return left;
  }

  async #collectTags(): Promise<number> {
    const tags = (await namesIn(this.#paths.tags(this.#repository))) ?? [];
    return tags.length + (await this.#tally.removeTemporary(this.#paths.tags(this.#repository)));
  }

  async #removeFolders(): Promise<void> {
    const dir = this.#paths.repository(this.#repository);
    for (const name of (await namesIn(dir)) ?? [])
      if (name.startsWith('_')) await removeEmptyFolders(path.join(dir, name));
    await removeIfEmpty(dir);
  }
}

async function removeEmptyFolders(dir: string): Promise<void> {
  for (const name of (await allNamesIn(dir)) ?? []) await removeEmptyFolders(path.join(dir, name));
  await removeIfEmpty(dir);
}

export async function removeIfEmpty(dir: string): Promise<void> {
  try {
    await rmdir(dir);
  } catch (error) {
    if (!['ENOTEMPTY', 'EEXIST', 'ENOENT', 'ENOTDIR'].includes(String((error as NodeJS.ErrnoException).code)))
      throw error;
  }
}
