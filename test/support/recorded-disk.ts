// What a process wrote and synced, replayed: at each moment the files as a power cut may leave them. The rules are those that ext4, XFS and
// btrfs keep at least:
// - what was written to a file before its fsync is there; of what came after, any blocks of 4096 bytes, in any order;
// - the names of a directory change in their order, and up to any point behind the directory's last fsync;
// - with the fsync of a file that is new also its name, and those of the directories above it, are there.
import { linkSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Random } from './damage.ts';

const block = 4096;

export interface DiskEvent {
  /** Write, truncate, punch, sync, create, make directory, rename, link, unlink. */
  readonly type: 'W' | 'T' | 'P' | 'S' | 'C' | 'D' | 'R' | 'L' | 'U';
  readonly inode: bigint;
  readonly offset: number;
  readonly length: number;
  readonly path: string;
  readonly other: string;
  readonly bytes: Buffer;
}

const headSize = 33;

/** Of test/chaos/power-cut/recorder.c. */
export function readEvents(file: string): DiskEvent[] {
  const log = readFileSync(file);
  const events: DiskEvent[] = [];
  for (let at = 0; at < log.length; ) {
    const type = String.fromCharCode(log[at] ?? 0) as DiskEvent['type'];
    const [inode, offset] = [log.readBigUInt64LE(at + 1), Number(log.readBigUInt64LE(at + 9))];
    const length = Number(log.readBigUInt64LE(at + 17));
    const [pathSize, otherSize] = [log.readUInt32LE(at + 25), log.readUInt32LE(at + 29)];
    at += headSize;
    const name = log.toString('utf8', at, (at += pathSize));
    const other = log.toString('utf8', at, (at += otherSize));
    const bytes = type === 'W' ? log.subarray(at, (at += length)) : Buffer.alloc(0);
    events.push({ type, inode, offset, length, path: name, other, bytes });
  }
  return events;
}

type Change = Pick<DiskEvent, 'type' | 'offset' | 'length' | 'bytes'>;
type Names = Map<string, bigint>;
/** All of it or nothing. */
type NameChange = readonly { readonly name: string; readonly inode: bigint | undefined }[];

class RecordedFile {
  durable = Buffer.alloc(0);
  pending: Change[] = [];

  sync(): void {
    for (const change of this.pending) this.durable = applied(this.durable, change);
    this.pending = [];
  }

  /** Of what was not synced each block is there with this chance. */
  afterCut(below: Random, chance: number): Buffer {
    const happens = () => below(1000) < chance * 1000;
    let bytes = Buffer.from(this.durable);
    for (const change of this.pending) {
      if (change.type !== 'W') {
        if (happens()) bytes = applied(bytes, change);
        continue;
      }
      for (const piece of blocksOf(change)) if (happens()) bytes = applied(bytes, piece);
    }
    return bytes;
  }
}

class RecordedDirectory {
  readonly durable: Names = new Map();
  pending: NameChange[] = [];

  sync(): void {
    for (const change of this.pending) applyNames(this.durable, change);
    this.pending = [];
  }

  /** What came before the name of this inode must be there as well. */
  syncUpTo(inode: bigint): void {
    const last = this.pending.findLastIndex((change) => change.some((each) => each.inode === inode));
    for (const change of this.pending.splice(0, last + 1)) applyNames(this.durable, change);
  }

  afterCut(below: Random, chance: number): Names {
    const names = new Map(this.durable);
    for (const change of this.pending) {
      if (below(1000) >= chance * 1000) break;
      applyNames(names, change);
    }
    return names;
  }

  now(): Names {
    const names = new Map(this.durable);
    for (const change of this.pending) applyNames(names, change);
    return names;
  }
}

export class RecordedDisk {
  readonly #root: string;
  readonly #files = new Map<bigint, RecordedFile>();
  readonly #directories = new Map<string, RecordedDirectory>();
  readonly #directoryOf = new Map<bigint, string>();
  readonly #inodeOf = new Map<string, bigint>();
  readonly #isSynced: (inode: bigint) => boolean;

  /** `root`: empty when the recording began. `isSynced`: whether the syncs of an inode count; for disks that lie. */
  constructor(root: string, rootInode: bigint, isSynced: (inode: bigint) => boolean = () => true) {
    this.#root = root;
    this.#isSynced = isSynced;
    this.#addDirectory(root, rootInode);
  }

  apply(event: DiskEvent): void {
    switch (event.type) {
      case 'W':
      case 'T':
      case 'P':
        this.#files.get(event.inode)?.pending.push(event);
        break;
      case 'S':
        if (this.#isSynced(event.inode)) this.#sync(event.inode);
        break;
      case 'C':
        this.#files.set(event.inode, new RecordedFile());
        this.#change(event.path, event.inode);
        break;
      case 'D':
        this.#addDirectory(event.path, event.inode);
        this.#change(event.path, event.inode);
        break;
      case 'R':
        this.#rename(event.path, event.other);
        break;
      case 'L':
        this.#change(event.other, this.#lookUp(event.path));
        break;
      case 'U':
        this.#change(event.path, undefined);
        break;
    }
  }

  /** Writes what a power cut now may leave to the root, in the inodes that the files had: `inodes` has a second name of each. */
  cut(inodes: string, below: Random): void {
    for (const name of readdirSync(this.#root)) rmSync(path.join(this.#root, name), { recursive: true });
    // Nothing of what was not synced, all of it, or about so much.
    const chance = [0, 1, 0.5, 0.9, 0.1][below(5)] ?? 0;
    this.#write(this.#root, inodes, below, chance);
  }

  #write(dir: string, inodes: string, below: Random, chance: number): void {
    for (const [name, inode] of this.#directories.get(dir)?.afterCut(below, chance) ?? []) {
      const at = path.join(dir, name);
      if (this.#directoryOf.has(inode)) {
        mkdirSync(at);
        this.#write(at, inodes, below, chance);
        continue;
      }
      const kept = path.join(inodes, String(inode));
      writeFileSync(kept, this.#files.get(inode)?.afterCut(below, chance) ?? Buffer.alloc(0));
      linkSync(kept, at);
    }
  }

  #sync(inode: bigint): void {
    const dir = this.#directoryOf.get(inode);
    if (dir !== undefined) {
      this.#directories.get(dir)?.sync();
      this.#syncName(dir, inode);
      return;
    }
    this.#files.get(inode)?.sync();
    const at = [...this.#inodeOf].find(([, each]) => each === inode)?.[0];
    if (at !== undefined) this.#syncName(at, inode);
  }

  #syncName(at: string, inode: bigint): void {
    if (at === this.#root) return;
    const dir = path.dirname(at);
    this.#directories.get(dir)?.syncUpTo(inode);
    const above = this.#inodeOf.get(dir);
    if (above !== undefined) this.#syncName(dir, above);
  }

  #addDirectory(dir: string, inode: bigint): void {
    this.#directories.set(dir, new RecordedDirectory());
    this.#directoryOf.set(inode, dir);
    this.#inodeOf.set(dir, inode);
  }

  #lookUp(at: string): bigint | undefined {
    return this.#directories.get(path.dirname(at))?.now().get(path.basename(at));
  }

  #change(at: string, inode: bigint | undefined): void {
    this.#directories.get(path.dirname(at))?.pending.push([{ name: path.basename(at), inode }]);
    if (inode === undefined) this.#inodeOf.delete(at);
    else this.#inodeOf.set(at, inode);
  }

  #rename(from: string, to: string): void {
    const inode = this.#lookUp(from);
    if (path.dirname(from) !== path.dirname(to)) {
      this.#change(to, inode);
      this.#change(from, undefined);
      return;
    }
    this.#directories.get(path.dirname(to))?.pending.push([
      { name: path.basename(from), inode: undefined },
      { name: path.basename(to), inode },
    ]);
    this.#inodeOf.delete(from);
    if (inode !== undefined) this.#inodeOf.set(to, inode);
  }
}

function applyNames(names: Names, change: NameChange): void {
  for (const { name, inode } of change) {
    if (inode === undefined) names.delete(name);
    else names.set(name, inode);
  }
}

function applied(bytes: Buffer, { type, offset, length, bytes: written }: Change): Buffer<ArrayBuffer> {
  if (type === 'T') return resized(bytes, length);
  if (type === 'P') {
    const punched = resized(bytes, bytes.length);
    punched.fill(0, Math.min(offset, bytes.length), Math.min(offset + length, bytes.length));
    return punched;
  }
  const grown = resized(bytes, Math.max(bytes.length, offset + written.length));
  written.copy(grown, offset);
  return grown;
}

function resized(bytes: Buffer, size: number): Buffer<ArrayBuffer> {
  const other = Buffer.alloc(size);
  bytes.copy(other, 0, 0, Math.min(size, bytes.length));
  return other;
}

function blocksOf({ offset, bytes }: Change): Change[] {
  const pieces: Change[] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = Math.min(bytes.length, at + block - ((offset + at) % block));
    pieces.push({ type: 'W', offset: offset + at, length: end - at, bytes: bytes.subarray(at, end) });
    at = end;
  }
  return pieces;
}
