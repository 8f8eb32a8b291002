// An index is untrusted: what it says about where a file's bytes lie is checked before anything is read from there.
import type { TarEntry } from '../tar/entry.ts';
import { displayBytes } from '../util/byte-string.ts';
import { TreeError } from './errors.ts';

/**
 * Checks that every entry's data lie inside its file, behind its own header, inside the stream (`streamSize` bytes; Infinity
 * when unknown), and that no two entries share a byte of stream.
 * Errors: ERR_TREE_EXTENT, naming the entry and `layer`.
 */
export function checkExtents(entries: readonly TarEntry[], layer: string, streamSize: number): void {
  let end = 0;
  let ascending = true;
  for (const entry of entries) {
    checkEntry(entry, layer, streamSize);
    if (entry.headerOffset < end) ascending = false;
    end = endOf(entry);
  }
  if (ascending) return;
  const sorted = entries.toSorted((a, b) => a.headerOffset - b.headerOffset);
  end = 0;
  for (const entry of sorted) {
    if (entry.headerOffset < end) throw refuse(entry, layer, 'overlaps the entry before it in the stream');
    end = endOf(entry);
  }
}

/**
 * The same for one entry at a time, in archive order. `end`: what this returned for the entry before it, 0 for the first.
 * Errors: ERR_TREE_EXTENT, also for an entry that stands before the end of the one before it.
 */
export function checkNextExtents(entry: TarEntry, layer: string, end: number): number {
  checkEntry(entry, layer, Infinity);
  if (entry.headerOffset < end) throw refuse(entry, layer, 'overlaps the entry before it in the stream');
  return endOf(entry);
}

function checkEntry(entry: TarEntry, layer: string, streamSize: number): void {
  const { headerOffset, dataOffset, size, extents } = entry;
  if (!isOffset(headerOffset) || !isOffset(dataOffset) || !isOffset(size) || dataOffset < headerOffset) {
    throw refuse(entry, layer, 'has impossible offsets');
  }
  let fileEnd = 0;
  let streamEnd = dataOffset;
  for (const extent of extents) {
    if (!isOffset(extent.fileOffset) || !isOffset(extent.streamOffset) || !(extent.size > 0)) {
      throw refuse(entry, layer, 'has impossible offsets');
    }
    if (extent.fileOffset < fileEnd) throw refuse(entry, layer, 'has overlapping extents');
    if (extent.streamOffset < streamEnd) throw refuse(entry, layer, 'has data that overlap a header or each other');
    fileEnd = extent.fileOffset + extent.size;
    streamEnd = extent.streamOffset + extent.size;
  }
  if (fileEnd > size) throw refuse(entry, layer, 'has data past its end');
  if (streamEnd > streamSize)
    throw refuse(entry, layer, `reaches to byte ${streamEnd} of a stream of ${streamSize} bytes`);
}

function endOf(entry: TarEntry): number {
  const last = entry.extents.at(-1);
  return last === undefined ? entry.dataOffset : last.streamOffset + last.size;
}

function isOffset(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}

function refuse(entry: TarEntry, layer: string, detail: string): TreeError {
  return new TreeError('ERR_TREE_EXTENT', `entry ${displayBytes(entry.path)} of ${layer} ${detail}`);
}
