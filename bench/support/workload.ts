// Which files of an image a program reads, and in which order: whole directories and parts of them, a few large files, shared objects.
// The same seed gives the same choice.
import { readdirSync, readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { deflateRaw } from 'node:zlib';

export interface ImageFile {
  /** From the image's root, `/usr/lib/a`. */
  readonly path: string;
  readonly size: number;
  /** Bytes that deflate makes of it at the level of the image's layers. */
  readonly compressed: number;
  readonly isProgram: boolean;
}

export interface Workload {
  /** As the reader of tools/reader.cpp takes it. */
  readonly list: string;
  /** What it reads. */
  readonly bytes: number;
  /** The same in the image's layers, about. */
  readonly compressed: number;
}

interface Touch {
  readonly file: ImageFile;
  /** See tools/reader.cpp. */
  readonly way: 'w' | 'm' | 'a';
}

/** From this size on programs are mapped, and a part of the other files as well. */
const mappedBytes = 128 << 10;
/** What a program reads of a file that it maps. */
const mappedShare = 0.5;

export async function imageFiles(root: string): Promise<ImageFile[]> {
  const entries = readdirSync(root, { recursive: true, encoding: 'utf8', withFileTypes: true });
  const paths = entries.filter((entry) => entry.isFile()).map((entry) => `${entry.parentPath}/${entry.name}`);
  const files: ImageFile[] = [];
  for (const path of paths.sort()) {
    const bytes = readFileSync(path);
    const compressed = (await promisify(deflateRaw)(bytes, { level: 6 })).length;
    const isProgram = bytes.subarray(0, 4).toString('latin1') === '\x7fELF';
    files.push({ path: path.slice(root.length), size: bytes.length, compressed, isProgram });
  }
  return files;
}

/** Reads `share` (0 to 1) of the files' bytes; all of them, each file whole, for 1. */
export function workload(files: readonly ImageFile[], share: number, seed: number): Workload {
  const random = randomNumbers(seed);
  const total = files.reduce((sum, { size }) => sum + size, 0);
  const touches: Touch[] = [];
  let bytes = 0;
  let compressed = 0;
  for (const directory of shuffled(byDirectory(files), random)) {
    for (const touch of touchesOf(directory, share === 1, random)) {
      if (share < 1 && bytes >= share * total) break;
      touches.push(touch);
      const part = touch.way === 'm' ? mappedShare : 1;
      bytes += touch.file.size * part;
      compressed += touch.file.compressed * part;
    }
  }
  return { list: touches.map(({ way, file }) => `${way} ${file.path}\n`).join(''), bytes, compressed };
}

/** A directory that is scanned is read in the order of its names, another one in parts and in no order. */
function touchesOf(files: readonly ImageFile[], isWhole: boolean, random: () => number): Touch[] {
  const isScanned = random() < 0.5;
  const chosen = isScanned ? files : shuffled(files, random).slice(0, Math.ceil(files.length * (isWhole ? 1 : 0.4)));
  return chosen.map((file) => {
    const isMapped = file.size >= mappedBytes && random() < (file.isProgram ? 0.8 : 0.3);
    return { file, way: !isMapped ? 'w' : isWhole ? 'a' : 'm' };
  });
}

function byDirectory(files: readonly ImageFile[]): ImageFile[][] {
  const groups: ImageFile[][] = [];
  const latest = new Map<string, ImageFile[]>();
  for (const file of files) {
    const directory = file.path.slice(0, file.path.lastIndexOf('/'));
    let group = latest.get(directory);
    // No program reads hundreds of shared objects because they are in one directory.
    if (group === undefined || group.length >= 40) {
      group = [];
      groups.push(group);
      latest.set(directory, group);
    }
    group.push(file);
  }
  return groups;
}

function shuffled<T>(values: readonly T[], random: () => number): T[] {
  return values
    .map((value) => ({ value, at: random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ value }) => value);
}

/** Numbers in [0, 1) by mulberry32. */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}
