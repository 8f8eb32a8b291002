import { promisify } from 'node:util';
import { inflateRaw } from 'node:zlib';
import type { TarEntry } from '../tar/entry.ts';
import { decodeEntries } from './entry-decoder.ts';
import { formatError, IndexError } from './errors.ts';
import type { LayerIndex } from './layer-index.ts';
import { defaultIndexLimits, type IndexLimits } from './limits.ts';
import { NodeIndexFile } from './node-index-file.ts';
import { checkOf, checkSize, type IndexInfo, nodeIndexVersions, spanLayout } from './node-index-format.ts';
import type { RemoteWindows, WindowSource } from './peel-windows.ts';
import { SpanColumns, type SpanColumnsInit, windowSize } from './span-columns.ts';

const inflate = promisify(inflateRaw);

/**
 * A layer's index file, open. Span columns are in memory; entries are decoded when they are asked for and windows read one
 * by one, so that an open index costs little whatever the size of its layer.
 */
export class NodeIndex implements LayerIndex {
  readonly info: IndexInfo;
  readonly spans: SpanColumns;
  /** Where the windows are, if not in the file: reading one needs `useWindows` first. */
  readonly windows: RemoteWindows | undefined;
  readonly #file: NodeIndexFile;
  readonly #limits: IndexLimits;
  #source: WindowSource | undefined;
  #entries: WeakRef<readonly TarEntry[]> | undefined;

  constructor(file: NodeIndexFile, info: IndexInfo, section: Buffer, limits: IndexLimits) {
    this.info = info;
    this.#file = file;
    this.#limits = limits;
    const columns = decodeColumns(file, info, section);
    this.windows = columns.windows;
    this.spans = this.#spans(columns);
  }

  /** What gives the windows that are not in the file; stays its owner's. */
  useWindows(source: WindowSource): void {
    this.#source = source;
  }

  /** 32 bytes that stand for the whole file. */
  get fingerprint(): Uint8Array {
    return this.#file.fingerprint;
  }

  /**
   * Read and decoded when first used, synchronously, and again after the collector took them: keep the array while in use.
   * Errors: ERR_INDEX_CHECKSUM, ERR_INDEX_FORMAT.
   */
  get entries(): readonly TarEntry[] {
    const kept = this.#entries?.deref();
    if (kept !== undefined) return kept;
    const entries = decodeEntries(this.#file.sectionSync('entries'), this.#limits);
    if (entries.length !== this.info.entryCount) {
      throw formatError(
        `index file ${this.#file.path} has ${entries.length} entries instead of ${this.info.entryCount}`,
      );
    }
    this.#entries = new WeakRef(entries);
    return entries;
  }

  /** Reads everything in the file that opening did not. Errors: ERR_INDEX_CHECKSUM, ERR_INDEX_FORMAT. */
  async verify(options: { signal?: AbortSignal | undefined } = {}): Promise<void> {
    decodeEntries(await this.#file.section('entries'), this.#limits);
    if (this.windows !== undefined) return;
    for (let i = 0; i < this.spans.count; i++) await this.spans.window(i, options);
  }

  /** Windows and entries can no longer be read; the span table stays. */
  close(): Promise<void> {
    return this.#file.close();
  }

  #spans({ windows, own, ...columns }: Columns): SpanColumns {
    const { decoder, blobSize, streamSize, openEnded, spanSize } = this.info;
    return new SpanColumns(
      {
        decoder,
        blobSize,
        streamSize,
        openEnded,
        spanSize,
        ...columns,
        window: windows === undefined ? own : (i, signal) => this.#remoteWindow(windows, i, signal),
        prepareWindows: (spans) => this.#source?.prepare(spans),
      },
      `index file ${this.#file.path}`,
      this.#limits,
    );
  }

  async #remoteWindow(
    { lengths, digest }: RemoteWindows,
    span: number,
    signal: AbortSignal | undefined,
  ): Promise<Uint8Array | undefined> {
    if (lengths[span] === 0) return undefined;
    if (this.#source === undefined)
      throw new Error(`windows of index file ${this.#file.path} are in ${digest}, which nobody reads`);
    return await this.#source.window(span, { signal });
  }
}

export interface OpenNodeIndexOptions {
  readonly limits?: IndexLimits | undefined;
}

interface Columns extends Pick<SpanColumnsInit, 'streamStarts' | 'blobStarts' | 'bits' | 'sha256'> {
  readonly windows: RemoteWindows | undefined;
  /** The window of a span that is in the file itself. */
  readonly own: (span: number) => Promise<Uint8Array | undefined>;
}

/**
 * Opens the index file at `path`. Errors: ERR_INDEX_VERSION when a newer release wrote it, ERR_INDEX_CHECKSUM when it is
 * damaged or cut short, ERR_INDEX_FORMAT, ERR_INDEX_LIMIT, ENOENT and others of the file system. All but the last kind
 * mean that the layer has no usable index here.
 */
export async function openNodeIndex(path: string, options: OpenNodeIndexOptions = {}): Promise<NodeIndex> {
  return openNodeIndexNow(path, options);
}

/** The same without waiting. */
export function openNodeIndexNow(path: string, { limits = defaultIndexLimits }: OpenNodeIndexOptions = {}): NodeIndex {
  const file = NodeIndexFile.open(path, limits);
  try {
    const info = readInfo(file.sectionSync('info'), file);
    return new NodeIndex(file, info, file.sectionSync('spans'), limits);
  } catch (error) {
    void file.close();
    throw error;
  }
}

function decodeColumns(file: NodeIndexFile, info: IndexInfo, section: Buffer): Columns {
  const { spanCount: count, hasDigests } = info;
  const windowCheckSize = info.windows === undefined ? checkSize : 32;
  const layout = spanLayout(count, { hasDigests, windowCheckSize });
  if (section.length !== layout.length) {
    throw formatError(`index file ${file.path} has ${section.length} bytes of spans for ${count} of them`);
  }
  const aligned = new Uint8Array(section).buffer;
  const offsets = new Float64Array(aligned, layout.windowOffsets, count);
  const lengths = new Uint32Array(aligned, layout.windowLengths, count);
  const checks = new Uint8Array(aligned, layout.windowChecks, windowCheckSize * count);
  return {
    streamStarts: new Float64Array(aligned, layout.streamStarts, count),
    blobStarts: new Float64Array(aligned, layout.blobStarts, count),
    bits: new Uint8Array(aligned, layout.bits, count),
    sha256: hasDigests ? new Uint8Array(aligned, layout.sha256, 32 * count) : undefined,
    windows: info.windows && { ...info.windows, offsets, lengths, sha256: checks },
    own: async (i) => {
      const check = checks.subarray(checkSize * i, checkSize * (i + 1));
      return readWindow(file, i, offsets[i] as number, lengths[i] as number, check);
    },
  };
}

async function readWindow(
  file: NodeIndexFile,
  span: number,
  offset: number,
  length: number,
  check: Uint8Array,
): Promise<Uint8Array | undefined> {
  if (length === 0) return undefined;
  if (length > windowSize) throw formatError(`index file ${file.path}: window of span ${span} has ${length} bytes`);
  const stored = await file.read(offset, length);
  if (!checkOf(stored).equals(check)) throw file.damaged(`is damaged in the window of span ${span}`);
  if (length === windowSize) return stored;
  try {
    const window = await inflate(stored, { maxOutputLength: windowSize });
    if (window.length === windowSize) return window;
  } catch (error) {
    throw new IndexError('ERR_INDEX_FORMAT', `index file ${file.path}: window of span ${span} does not inflate`, {
      cause: error,
    });
  }
  throw formatError(`index file ${file.path}: window of span ${span} is too short`);
}

/** The section was written by us and has its checksum: only what sizes memory is checked again. */
function readInfo(bytes: Buffer, { path, version }: NodeIndexFile): IndexInfo {
  let info: IndexInfo;
  try {
    info = JSON.parse(bytes.toString('utf8')) as IndexInfo;
  } catch (error) {
    throw new IndexError('ERR_INDEX_FORMAT', `index file ${path} has no readable info`, { cause: error });
  }
  if (!Number.isSafeInteger(info.spanCount) || info.spanCount < 0)
    throw formatError(`index file ${path} has no span count`);
  if ((version === nodeIndexVersions.remoteWindows) !== (info.windows !== undefined))
    throw formatError(`index file ${path} has version ${version} and ${info.windows ? 'a' : 'no'} windows blob`);
  return info;
}
