// A cache in memory, with everything that makes room in it difficult: to judge who goes and who stays.
import type { Evictable } from '../../src/layer/evictable.ts';
import type { CacheStock } from '../../src/image/make-room.ts';
import type { Digest } from '../../src/oci/digest.ts';

export interface SituationSpan {
  readonly bytes: number;
  readonly lastUsed: number;
  present: boolean;
  /** A read uses it: it cannot be evicted now. */
  readonly claimed: boolean;
}

export interface SituationLayer {
  readonly digest: Digest;
  readonly usedAt: number;
  readonly compressedBytes: number;
  /** Nobody uses or shows it. */
  readonly idle: boolean;
  readonly complete: boolean;
  readonly spans: readonly SituationSpan[];
}

export interface Went {
  readonly layer: Digest;
  /** Undefined: the whole layer. */
  readonly span: number | undefined;
}

/** Of blocks: a span frees whole ones only. */
const block = 4096;

export class CacheSituation implements CacheStock {
  readonly now: number;
  /** In this order. */
  readonly went: Went[] = [];
  /** Layers whose compressed form went. */
  readonly shrunk: Digest[] = [];
  readonly #layers: readonly SituationLayer[];
  readonly #removed = new Set<Digest>();

  constructor(layers: readonly SituationLayer[], now: number) {
    this.#layers = [...layers].sort((a, b) => a.usedAt - b.usedAt);
    this.now = now;
  }

  get layers(): readonly SituationLayer[] {
    return this.#layers.filter(({ digest }) => !this.#removed.has(digest));
  }

  async usedBytes(): Promise<number> {
    return this.layers.reduce((sum, layer) => sum + this.#compressed(layer) + onDisk(layer), 0);
  }

  async removeWhole(more: (freedBytes: number) => boolean): Promise<{ readonly removed: readonly Digest[] }> {
    const removed: Digest[] = [];
    let freed = 0;
    for (const layer of this.layers) {
      if (!more(freed)) break;
      freed += this.#compressed(layer);
      this.shrunk.push(layer.digest);
    }
    for (const layer of this.layers) {
      if (!more(freed)) break;
      if (!layer.idle) continue;
      freed += onDisk(layer);
      this.#removed.add(layer.digest);
      this.went.push({ layer: layer.digest, span: undefined });
      removed.push(layer.digest);
    }
    return { removed };
  }

  async lazyLayers(): Promise<readonly Digest[]> {
    return this.layers.map(({ digest }) => digest);
  }

  async withLazy<T>(digest: Digest, use: (evictable: Evictable) => Promise<T> | T): Promise<T | undefined> {
    const layer = this.layers.find((candidate) => candidate.digest === digest);
    return layer === undefined ? undefined : await use(this.#evictable(layer));
  }

  #evictable({ digest, complete, spans }: SituationLayer): Evictable {
    const starts = [0];
    for (const { bytes } of spans) starts.push((starts.at(-1) ?? 0) + bytes);
    return {
      layer: digest,
      complete,
      spanStarts: Float64Array.from(starts),
      isPresent: (span) => spans[span]?.present === true,
      lastUsed: () => Uint32Array.from(spans, ({ lastUsed }) => lastUsed),
      coarseNow: () => this.now,
      evict: async (wanted) => {
        const gone = [...wanted].filter((span) => spans[span]?.present === true && !spans[span].claimed && !complete);
        const before = onDisk({ spans });
        for (const span of gone) {
          this.went.push({ layer: digest, span });
          (spans[span] as SituationSpan).present = false;
        }
        return { evicted: gone.length, bytes: before - onDisk({ spans }) };
      },
    };
  }

  #compressed({ digest, compressedBytes }: SituationLayer): number {
    return this.shrunk.includes(digest) ? 0 : compressedBytes;
  }
}

/** Blocks that hold a byte of a span that is there. */
function onDisk({ spans }: Pick<SituationLayer, 'spans'>): number {
  let [at, end, bytes] = [0, 0, 0];
  for (const span of spans) {
    const to = at + span.bytes;
    if (span.present && span.bytes > 0) {
      const first = Math.max(end, Math.floor(at / block));
      const last = Math.ceil(to / block);
      bytes += Math.max(0, last - first) * block;
      end = Math.max(end, last);
    }
    at = to;
  }
  return bytes;
}
