import type { TarEntry } from '../tar/entry.ts';

/** Told what a pass over one layer finds, while it goes. What it throws ends the pass. */
export interface StreamSink {
  /** Before anything else: the file that gets the layer stream, each byte at its stream offset. Open until the pass has ended. */
  begin(dataFd: number): void;
  /** Members, in archive order. */
  entries(entries: readonly TarEntry[]): void;
  /** All stream bytes before this offset can be read from the file. Ascending. */
  written(streamOffset: number): void;
}
