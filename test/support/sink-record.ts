import type { StreamSink } from '../../src/unpack/stream-sink.ts';
import type { TarEntry } from '../../src/tar/entry.ts';
import { readSync } from 'node:fs';

/** A sink that keeps what it is told and looks at the data file as soon as it may. */
export class SinkRecord implements StreamSink {
  readonly #members: TarEntry[] = [];
  readonly offsets: number[] = [];
  /** Order of the calls. */
  readonly calls: ('begin' | 'entries' | 'written')[] = [];
  /** Stream bytes read from the file, each as soon as it was told of. */
  readonly stream: Buffer[] = [];
  #dataFd = -1;

  begin(dataFd: number): void {
    this.#dataFd = dataFd;
    this.calls.push('begin');
  }

  entries(entries: readonly TarEntry[]): void {
    this.#members.push(...entries);
    this.calls.push('entries');
  }

  written(offset: number): void {
    const from = this.offsets.at(-1) ?? 0;
    if (offset < from) throw new Error(`written up to ${offset} after ${from}`);
    const bytes = Buffer.alloc(offset - from);
    for (let at = 0; at < bytes.length; ) {
      const read = readSync(this.#dataFd, bytes, at, bytes.length - at, from + at);
      if (read === 0) throw new Error(`the file ends at ${from + at}, and ${offset} bytes were promised`);
      at += read;
    }
    this.stream.push(bytes);
    this.offsets.push(offset);
    this.calls.push('written');
  }

  get members(): readonly TarEntry[] {
    return this.#members;
  }
}
