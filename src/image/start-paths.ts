// Whose bytes a place in a layer stream holds.
import { openNodeIndex } from '../index/node-index.ts';
import { IndexError } from '../index/errors.ts';
import { errorCode } from '../layer/errors.ts';
import type { LayerPaths } from '../layer/layer-paths.ts';
import type { TarEntry } from '../tar/entry.ts';
import type { ByteString } from '../util/byte-string.ts';

interface Stretch {
  readonly start: number;
  readonly end: number;
  readonly path: ByteString;
}

/** Files of one layer by where their bytes are in its stream. */
export class StreamPaths {
  /** Ascending. */
  readonly #stretches: readonly Stretch[];

  constructor(entries: readonly TarEntry[]) {
    this.#stretches = entries
      .flatMap(({ path, extents }) =>
        extents.map(({ streamOffset, size }) => ({ start: streamOffset, end: streamOffset + size, path })),
      )
      .toSorted((a, b) => a.start - b.start);
  }

  /** As the archive has it; undefined between two files. */
  at(offset: number): ByteString | undefined {
    let [low, high] = [0, this.#stretches.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#stretches[middle] as Stretch).start <= offset) low = middle + 1;
      else high = middle;
    }
    const found = this.#stretches[low - 1];
    return found !== undefined && offset < found.end ? found.path : undefined;
  }
}

/** By the layer's index on this node, whichever it is by now; undefined when there is none any more. Errors: those of the file system. */
export async function streamPathsOf({ index }: Pick<LayerPaths, 'index'>): Promise<StreamPaths | undefined> {
  try {
    const opened = await openNodeIndex(index);
    try {
      return new StreamPaths(opened.entries);
    } finally {
      await opened.close();
    }
  } catch (error) {
    if (error instanceof IndexError || errorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}
