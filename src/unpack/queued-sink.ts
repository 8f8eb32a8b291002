import type { TarEntry } from '../tar/entry.ts';
import type { StreamSink } from './stream-sink.ts';

/** Keeps what a pass tells until it is the turn of its layer: the layers of an image are read side by side and applied one after the other. */
export class QueuedSink implements StreamSink {
  readonly #begin: (dataFd: number) => void;
  readonly #written: (streamOffset: number) => void;
  #queue: (readonly TarEntry[])[] = [];
  #target: ((entries: readonly TarEntry[]) => void) | undefined;

  /** What needs no turn goes straight on. */
  constructor({ begin, written }: Pick<StreamSink, 'begin' | 'written'>) {
    this.#begin = begin;
    this.#written = written;
  }

  /** From now on entries go to `target`, beginning with those that have come. Errors: those of `target`. */
  open(target: (entries: readonly TarEntry[]) => void): void {
    const queue = this.#queue;
    this.#queue = [];
    this.#target = target;
    for (const entries of queue) target(entries);
  }

  begin(dataFd: number): void {
    this.#begin(dataFd);
  }

  entries(entries: readonly TarEntry[]): void {
    if (this.#target === undefined) this.#queue.push(entries);
    else this.#target(entries);
  }

  written(streamOffset: number): void {
    this.#written(streamOffset);
  }
}
