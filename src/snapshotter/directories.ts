// The directories of snapshots that containerd writes into: `<root>/s/<id in base 36>/{fs,work}`. Short names: overlayfs takes all of an
// image's in one page.
import { randomUUID } from 'node:crypto';
import { renameSync } from 'node:fs';
import { chmod, chown, mkdir, readdir, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { readMountInfo } from '../image/mountinfo.ts';
import { errorCode, errorMessage } from '../layer/errors.ts';
import type { Logger } from '../observe/log.ts';
import { forEach } from '../util/for-each.ts';
import { makeDirectory } from '../util/make-directory.ts';
import { removeTree } from '../util/remove-tree.ts';
import { syncDirectory } from '../util/sync-directory.ts';
import { SnapshotError } from './errors.ts';
import type { RootAttributes } from './layer-provider.ts';
import type { SnapshotPlace } from './mounts.ts';

/** A directory that no snapshot has yet. */
export interface FreshDirectory {
  readonly path: string;
}

const removalsAtOnce = 2;

export class SnapshotDirectories {
  readonly #dir: string;
  /** Being made: they have no row yet, and a cleanup must let them be. */
  readonly #fresh = new Set<string>();

  /** Errors: ERR_SNAPSHOT_ARGUMENT when overlayfs cannot be told of directories below `root`. */
  constructor(root: string) {
    if (/[:,\\]/.test(root)) {
      throw new SnapshotError(
        'ERR_SNAPSHOT_ARGUMENT',
        `no snapshots are possible below ${root}: overlayfs splits its options at ':', ',' and '\\'; use another root`,
      );
    }
    this.#dir = join(root, 's');
  }

  of(id: number): SnapshotPlace {
    return { fs: join(this.#path(id), 'fs'), work: join(this.#path(id), 'work') };
  }

  async rootOf(id: number): Promise<RootAttributes> {
    const { mode, uid, gid } = await stat(this.of(id).fs);
    return { mode: mode & 0o7777, uid, gid };
  }

  /** The caller gives it to a snapshot or discards it. Errors: errno codes. */
  async make(root: RootAttributes, { work }: { readonly work: boolean }): Promise<FreshDirectory> {
    const name = `new-${randomUUID()}`;
    const fresh = { path: join(this.#dir, name) };
    this.#fresh.add(name);
    try {
      await makeDirectory(fresh.path, 0o700);
      const fs = join(fresh.path, 'fs');
      await mkdir(fs, 0o700);
      await chown(fs, root.uid, root.gid);
      await chmod(fs, root.mode);
      if (work) await mkdir(join(fresh.path, 'work'), 0o711);
      return fresh;
    } catch (error) {
      await this.discard(fresh);
      throw error;
    }
  }

  /**
   * Puts a tree in the place of the fresh directory's files, of which there are none. Without waiting, as `adopt`. Errors: ENOTEMPTY when there
   * are, other errno codes.
   */
  fill(fresh: FreshDirectory, tree: string): void {
    renameSync(tree, join(fresh.path, 'fs'));
  }

  /** Undoes `fill`, of a directory that was given back. */
  empty(fresh: FreshDirectory, tree: string): void {
    renameSync(join(fresh.path, 'fs'), tree);
  }

  /** Without waiting: part of the transaction that makes the snapshot's row, so that there never is a row without a directory. */
  adopt(fresh: FreshDirectory, id: number): void {
    try {
      renameSync(fresh.path, this.#path(id));
    } catch (error) {
      if (errorCode(error) !== 'ENOTEMPTY' && errorCode(error) !== 'EEXIST') throw error;
      // Left by a process that ended within the transaction, whose number is given again; or of a snapshot that is made anew.
      renameSync(this.#path(id), join(this.#dir, `old-${randomUUID()}`));
      renameSync(fresh.path, this.#path(id));
    }
  }

  /** Makes an adopted directory durable. */
  async sync(id: number): Promise<void> {
    await Promise.all([syncDirectory(this.#path(id)), syncDirectory(this.#dir)]);
  }

  /** However it ended; what was adopted stays. */
  async discard(fresh: FreshDirectory): Promise<void> {
    await removeTree(fresh.path);
    this.#fresh.delete(fresh.path.slice(this.#dir.length + 1));
  }

  /** Undoes an adoption whose transaction failed; at once, for the next snapshot is given the same number. */
  giveBack(fresh: FreshDirectory, id: number): void {
    renameSync(this.#path(id), fresh.path);
  }

  /**
   * Removes all that no snapshot has, also what a crash left. One that cannot be removed, or has something mounted in it, is
   * logged and left for the next time. Errors: the signal's reason; errno codes of the folder itself.
   */
  async clean(
    inUse: () => ReadonlySet<number>,
    options: { readonly log: Logger; readonly signal: AbortSignal },
  ): Promise<void> {
    const names = await this.#names();
    // After the names: a directory gets its name and its row in one go.
    const used = inUse();
    const garbage = names.filter((name) => !this.#fresh.has(name) && !used.has(idOf(name)));
    if (garbage.length === 0) return;
    const real = await realpath(this.#dir);
    const mounts = await readMountInfo();
    await forEach(
      garbage,
      removalsAtOnce,
      async (name) => {
        const path = join(this.#dir, name);
        const below = join(real, name);
        if (mounts.some(({ dir }) => dir === below || dir.startsWith(`${below}/`))) {
          options.log.warn({ path }, 'not removed: something is mounted in it');
          return;
        }
        await removeTree(path).catch((error: unknown) => {
          options.log.warn({ path, error: errorMessage(error) }, 'cannot remove the directory of a removed snapshot');
        });
      },
      { signal: options.signal },
    );
  }

  async #names(): Promise<string[]> {
    try {
      return await readdir(this.#dir);
    } catch (error) {
      if (errorCode(error) === 'ENOENT') return [];
      throw error;
    }
  }

  #path(id: number): string {
    return join(this.#dir, id.toString(36));
  }
}

/** NaN for a name that is no number as we write it. */
function idOf(name: string): number {
  const id = Number.parseInt(name, 36);
  return id.toString(36) === name ? id : Number.NaN;
}
