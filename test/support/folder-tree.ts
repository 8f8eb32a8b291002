// Layers that somebody unpacked: a folder, and the number of its job.
import { existsSync } from 'node:fs';
import { digestFromSha256 } from '../../src/oci/digest.ts';
import type { Digest } from '../../src/oci/digest.ts';
import type { SnapshotTable } from '../../src/state/snapshots.ts';
import { UnpackError } from '../../src/unpack/errors.ts';
import type { UnpackedTree } from '../../src/unpack/unpacker.ts';
import { type ByteString, byteStringFromText } from '../../src/util/byte-string.ts';

/** Its claims are transactions of the table's database. */
export class FolderTree implements UnpackedTree {
  readonly job: number;
  readonly layer: Digest;
  readonly dir: string;
  readonly implied: readonly ByteString[];
  hiding: readonly ByteString[] = [];
  readonly #table: SnapshotTable;
  #claimed = false;
  released = 0;
  /** Comes between a claim and the transaction that it is: disks fail there. */
  around: <T>(take: () => T) => T = (take) => take();

  constructor(table: SnapshotTable, dir: string, job: number, implied: readonly string[] = []) {
    this.#table = table;
    this.dir = dir;
    this.job = job;
    this.layer = digestFromSha256(Buffer.alloc(32, job));
    this.implied = implied.map(byteStringFromText);
  }

  claim<T>(take: (dir: string) => T): T {
    if (this.#claimed || !existsSync(this.dir))
      throw new UnpackError('ERR_UNPACK_NOT_CLAIMABLE', `the tree of job ${this.job} was taken by somebody else`);
    const taken = this.#table.durably(() => this.around(() => take(this.dir)));
    this.#claimed = true;
    return taken;
  }

  release(): void {
    this.released += 1;
  }
}
