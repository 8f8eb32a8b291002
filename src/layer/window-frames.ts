import type { RemoteWindows } from '../index/peel-windows.ts';

/** The frames of a windows blob in their order, without the spans that have none: neighbours here are neighbours in the blob. */
export class WindowFrames {
  readonly count: number;
  readonly #windows: RemoteWindows;
  /** Ascending. */
  readonly #spans: Uint32Array;

  constructor(windows: RemoteWindows) {
    this.#windows = windows;
    const { lengths } = windows;
    let count = 0;
    for (const length of lengths) if (length > 0) count += 1;
    this.#spans = new Uint32Array(count);
    let next = 0;
    for (const [span, length] of lengths.entries()) if (length > 0) this.#spans[next++] = span;
    this.count = count;
  }

  /** The frame of a span; undefined when it has none. */
  of(span: number): number | undefined {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.span(middle) < span) low = middle + 1;
      else high = middle;
    }
    return low < this.count && this.span(low) === span ? low : undefined;
  }

  span(frame: number): number {
    return this.#spans[frame] as number;
  }

  /** Bytes from the start of the blob. */
  start(frame: number): number {
    return this.#windows.offsets[this.span(frame)] as number;
  }

  end(frame: number): number {
    return this.start(frame) + (this.#windows.lengths[this.span(frame)] as number);
  }

  /** 32 bytes. */
  sha256(frame: number): Uint8Array {
    const span = this.span(frame);
    return this.#windows.sha256.subarray(32 * span, 32 * span + 32);
  }
}
