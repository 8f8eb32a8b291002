import { rm } from 'node:fs/promises';
import path from 'node:path';
import type { Digest } from '../../oci/digest.ts';
import { statIfPresent } from './content-pool.ts';
import { garbageKinds } from './garbage-report.ts';
import type { GarbageCount, GarbageKind, GarbageOptions } from './garbage-report.ts';
import { allNamesIn } from '../../util/all-names-in.ts';

/** Removes, or only counts, and knows what is old enough. */
export class GarbageTally {
  readonly dryRun: boolean;
  readonly signal: AbortSignal | undefined;
  readonly #oldest: number;
  readonly #counts = new Map<GarbageKind, { count: number; bytes: number }>();
  /** How many links to content a run that removes nothing would have removed. */
  readonly #wouldUnlink = new Map<Digest, number>();

  constructor(options: GarbageOptions) {
    this.dryRun = options.dryRun === true;
    this.signal = options.signal;
    this.#oldest = Date.now() - options.olderThanMs;
    for (const kind of garbageKinds) this.#counts.set(kind, { count: 0, bytes: 0 });
  }

  add(kind: GarbageKind, bytes: number): void {
    const counts = this.#counts.get(kind);
    if (counts === undefined) return;
    counts.count += 1;
    counts.bytes += bytes;
  }

  counts(): Record<GarbageKind, GarbageCount> {
    return Object.fromEntries(this.#counts) as Record<GarbageKind, GarbageCount>;
  }

  isOld({ mtimeMs }: { readonly mtimeMs: number }): boolean {
    return mtimeMs <= this.#oldest;
  }

  async isOldFile(file: string): Promise<boolean> {
    const found = await statIfPresent(file);
    return found !== undefined && this.isOld(found);
  }

  async remove(kind: GarbageKind, file: string): Promise<void> {
    const found = await statIfPresent(file);
    if (found === undefined) return;
    this.add(kind, found.size);
    if (!this.dryRun) await rm(file, { force: true });
  }

  /** Returns how many are left: 1 or 0. */
  async removeIfOld(kind: GarbageKind, file: string): Promise<number> {
    if (!(await this.isOldFile(file))) return 1;
    await this.remove(kind, file);
    return 0;
  }

  /** What writers that were killed left in a folder. Returns how many are left. */
  async removeTemporary(dir: string): Promise<number> {
    let left = 0;
    for (const name of (await allNamesIn(dir)) ?? [])
      if (/^\..*\.tmp$/.test(name)) left += await this.removeIfOld('temporary', path.join(dir, name));
    return left;
  }

  /** One link to content of the pool. */
  async unlink(kind: GarbageKind, file: string, digest: Digest): Promise<void> {
    await this.remove(kind, file);
    if (this.dryRun) this.#wouldUnlink.set(digest, this.wouldUnlink(digest) + 1);
  }

  wouldUnlink(digest: Digest): number {
    return this.#wouldUnlink.get(digest) ?? 0;
  }
}
