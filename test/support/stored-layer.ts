// A layer whose blob is its stream (decoder `stored`), with bytes that can be recomputed anywhere: for tests of what reads
// through a LayerCache.
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { LayerCache } from '../../src/native/layer-cache.ts';

export class StoredLayer {
  readonly cache: LayerCache;
  readonly bytes: Buffer;
  readonly spanSize: number;
  /** Where `data` is. */
  readonly dir: string;
  readonly livePath: string;
  /** Every span that was asked for, in order. */
  readonly misses: number[] = [];
  #stalled = false;

  constructor(dir: string, o: { size: number; spanSize: number; bytes?: Buffer }) {
    this.bytes = o.bytes ?? randomBytes(o.size);
    this.spanSize = o.spanSize;
    this.dir = path.join(dir, 'blob');
    this.livePath = path.join(dir, 'live');
    const starts = [];
    for (let at = 0; at < o.size; at += o.spanSize) starts.push(at);
    starts.push(o.size);
    this.cache = LayerCache.open({
      dir: this.dir,
      livePath: this.livePath,
      streamSize: o.size,
      spanStarts: Float64Array.from(starts),
      fingerprint: new Uint8Array(32),
    });
  }

  get spans(): number {
    return Math.ceil(this.bytes.length / this.spanSize);
  }

  /** Decodes what is asked for; while stalled, only remembers it. */
  serve(o: { stalled: boolean } = { stalled: false }): void {
    this.#stalled = o.stalled;
    this.cache.onMiss((spans) => {
      for (const span of spans) {
        this.misses.push(span);
        if (!this.#stalled) void this.bring(span).catch(() => {});
      }
    });
  }

  async bring(span: number): Promise<void> {
    const data = this.bytes.subarray(span * this.spanSize, (span + 1) * this.spanSize);
    const request = { span, decoder: 'stored', bits: 0, data, window: undefined, sha256: undefined } as const;
    await this.cache.decode({ ...request, openEnded: false });
  }

  async fill(): Promise<void> {
    for (let span = 0; span < this.spans; span++) await this.bring(span);
  }

  /** Present in full and marked so. */
  async complete(): Promise<void> {
    await this.fill();
    await this.cache.markComplete();
  }
}
