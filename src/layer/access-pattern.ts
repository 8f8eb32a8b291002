// What is read next, guessed from what was read. All that is visible are first touches of spans, and offset and length of the reads that had to
// wait: no paths, no file types, no second reads, and not which file of a span was meant. So a shared object is a file of a few MiB whose
// start was touched (it is mapped: header first, then here and there), and a Python package is files near each other in the tar.
import type { Span, SpanTable } from '../index/layer-index.ts';
import type { FileMap, FilePlace } from './file-map.ts';
import type { Guess } from './guess.ts';

const kib = 1024;
const mib = 1024 * kib;

/** A file of at most so many bytes comes whole, whatever of it was read. */
const smallFile = mib;
/** A file of at most so many bytes comes whole when its start was read. */
const mappedFile = 4 * mib;
/** How far from its start a read still is one of headers. */
const headerBytes = 64 * kib;
/** Part of a span that must be of a file before a touch of the span is taken for one of the file that starts, and ends, there. */
const startShare = 1 / 8;
const endShare = 1 / 2;

const leastAhead = 512 * kib;
/** A reader that takes 400 MB/s is 20 ms behind then. */
const mostAhead = 8 * mib;
/** Reads of one reader reach us out of order by so many touches: the kernel sends several at a time. */
const disorder = 4;

/** Files this far apart belong together. */
const near = mib;
const mostNeighbours = 4 * mib;
/** Touches this long ago have nothing to do with the one now. */
const recent = 256;

const regionSize = 8 * mib;

export class AccessPattern {
  readonly #spans: SpanTable;
  /** Number of the touch, from 1; 0 for what was not touched. */
  readonly #order: Uint32Array;
  readonly #regions: Float64Array;
  #files: FileMap | undefined;
  #touches = 0;
  #touchedBytes = 0;
  /** Every span before was touched. */
  #firstUntouched = 0;

  constructor(spans: SpanTable, files?: FileMap) {
    this.#spans = spans;
    this.#files = files;
    this.#order = new Uint32Array(spans.count);
    this.#regions = new Float64Array(Math.ceil(spans.streamSize / regionSize));
  }

  useFiles(files: FileMap): void {
    this.#files = files;
  }

  isTouched(index: number): boolean {
    return (this.#order[index] ?? 0) !== 0;
  }

  /** A span was read for the first time. The likeliest guess first; they may overlap, and name what is here already. */
  touch(index: number): Guess[] {
    if (index >= this.#order.length || this.isTouched(index)) return [];
    const span = this.#spans.span(index);
    const length = span.streamEnd - span.streamStart;
    this.#order[index] = ++this.#touches;
    this.#touchedBytes += length;
    const region = Math.floor(span.streamStart / regionSize);
    if (region < this.#regions.length) this.#regions[region] = (this.#regions[region] ?? 0) + length;
    while (this.#firstUntouched < this.#order.length && this.isTouched(this.#firstUntouched)) this.#firstUntouched += 1;
    return [
      ...this.#sequence(span),
      ...this.#filesOf(span),
      ...this.#neighbours(span),
      ...this.#region(span, region),
    ].filter(({ from, to }) => from < to);
  }

  /** A read at stream byte `offset` had to wait: unlike a touch it tells which file was meant. */
  read(offset: number): Guess[] {
    const file = this.#files?.fileAt(offset);
    if (file === undefined) return [];
    const size = file.end - file.start;
    const whole = size <= smallFile || (size <= mappedFile && offset - file.start < headerBytes);
    return whole ? [{ kind: 'file', from: file.start, to: file.end }] : [];
  }

  /** Twice as far ahead as was read in order until now, inside the file where files are known. */
  #sequence(span: Span): Guess[] {
    const { streamStart, streamEnd } = span;
    const file = this.#files?.fileAt(streamEnd - 1);
    // Between files, or from one to the next, is for the neighbours.
    if (this.#files !== undefined && (file === undefined || file.start >= streamStart)) return [];
    const limit = Math.min(file?.end ?? Infinity, this.#spans.streamSize);
    let start = streamStart;
    let order = this.#touches;
    for (let before = span.index - 1; before >= 0 && streamEnd - start < mostAhead; before -= 1) {
      const touched = this.#order[before] ?? 0;
      const { streamStart: from, streamEnd: to } = this.#spans.span(before);
      if (touched === 0 || touched > order + disorder || to <= (file?.start ?? 0)) break;
      order = touched;
      start = from;
    }
    if (start === streamStart) return [];
    const ahead = Math.min(mostAhead, Math.max(leastAhead, 2 * (streamEnd - start)));
    return [{ kind: 'sequence', from: streamEnd, to: Math.min(limit, streamEnd + ahead) }];
  }

  /** The rest of the files that lie over the ends of the span: all others in it came with it. */
  #filesOf({ streamStart, streamEnd }: Span): Guess[] {
    const whole = (file: FilePlace): Guess => ({ kind: 'file', from: file.start, to: file.end });
    const length = streamEnd - streamStart;
    const guesses: Guess[] = [];
    const last = this.#files?.fileAt(streamEnd - 1);
    if (last !== undefined && last.end > streamEnd) {
      const size = last.end - last.start;
      const startsHere = last.start >= streamStart;
      if (startsHere && size <= mappedFile && streamEnd - last.start >= length * startShare) guesses.push(whole(last));
      if (!startsHere && size <= smallFile) guesses.push(whole(last));
    }
    const first = this.#files?.fileAt(streamStart);
    if (first !== undefined && first.start < streamStart && first.end <= streamEnd) {
      const size = first.end - first.start;
      if (size <= smallFile && first.end - streamStart >= length * endShare) guesses.push(whole(first));
    }
    return guesses;
  }

  /** With each file touched near this one twice as many of those that follow, to the end of the last; and those between. */
  #neighbours(span: Span): Guess[] {
    const { streamStart, streamEnd, index } = span;
    let lowest = streamStart;
    let highest = streamEnd;
    let others = 0;
    const large = this.#largeFilesOf(span);
    const look = (other: number): boolean => {
      const { streamStart: from, streamEnd: to } = this.#spans.span(other);
      const apart = other < index ? streamStart - to : from - streamEnd;
      const touched = this.#order[other] ?? 0;
      if (
        touched > 0 &&
        touched + recent >= this.#touches &&
        !large.some((file) => file.start < to && file.end > from)
      ) {
        others += 1;
        lowest = Math.min(lowest, from);
        highest = Math.max(highest, to);
      }
      return apart < near;
    };
    for (let other = index - 1; other >= 0 && look(other); other -= 1);
    for (let other = index + 1; other < this.#spans.count && look(other); other += 1);
    if (others === 0) return [];
    const to = Math.min(this.#spans.streamSize, highest + Math.min(mostNeighbours, leastAhead * 2 ** (others - 1)));
    const last = this.#files?.fileAt(to - 1);
    const end = last !== undefined && last.end - last.start <= smallFile ? last.end : to;
    return [
      { kind: 'neighbours', from: streamEnd, to: end },
      { kind: 'neighbours', from: lowest, to: streamStart },
    ];
  }

  /** Another touch inside one of these is no touch of a neighbour. */
  #largeFilesOf({ streamStart, streamEnd }: Span): readonly FilePlace[] {
    const files = [this.#files?.fileAt(streamStart), this.#files?.fileAt(streamEnd - 1)];
    return files.filter((file) => file !== undefined).filter((file) => file.end - file.start > smallFile);
  }

  /** When most of a region, or of the layer, was touched, the rest is wanted too. */
  #region({ streamEnd }: Span, region: number): Guess[] {
    const { streamSize, count } = this.#spans;
    if (this.#touchedBytes > streamSize / 2) {
      const from = this.#firstUntouched < count ? this.#spans.span(this.#firstUntouched).streamStart : streamSize;
      const ahead = 4 * mostAhead;
      return [
        { kind: 'region', from: streamEnd, to: Math.min(streamSize, streamEnd + ahead) },
        { kind: 'region', from, to: Math.min(streamSize, from + ahead) },
      ];
    }
    const from = region * regionSize;
    const to = Math.min(streamSize, from + regionSize);
    return (this.#regions[region] ?? 0) > (to - from) / 2 ? [{ kind: 'region', from, to }] : [];
  }
}
