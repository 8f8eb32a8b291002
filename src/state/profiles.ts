import { parseDigest } from '../oci/digest.ts';
import type { Digest } from '../oci/digest.ts';
import type { Database } from './database.ts';
import type { IndexFormat } from './indexes.ts';
import { trySoon } from './try-now.ts';
import type { TrySoonOptions } from './try-now.ts';
import { mergeRun, noRuns, runsOfOrder } from './profile-merge.ts';
import type { MergedRuns, ProfileSpan } from './profile-merge.ts';
import { readableRows } from './readable-rows.ts';

/** The spans of one layer, as one index counts them. */
export interface CountedLayer {
  readonly layer: Digest;
  /** Digest of the index manifest. */
  readonly index: Digest;
  readonly format: IndexFormat;
  readonly spanCount: number;
}

/** What one start touched of a layer. */
export interface LayerOrder extends CountedLayer {
  /** Each once, in the order of the first touches. */
  readonly spans: readonly number[];
}

export interface ProfileRow extends CountedLayer, MergedRuns {
  /** Manifest digest. */
  readonly image: Digest;
  /** `recorded`, or where it was found, for people. */
  readonly source: string;
  /** ms since the epoch. */
  readonly updatedAt: number;
}

/** The source of what this node's own starts touched. */
export const recordedHere = 'recorded';

interface RawRow {
  image: string;
  layer: string;
  index_id: string;
  format: string;
  span_count: number;
  runs: number;
  spans: string;
  source: string;
  updated_at: number;
}

/** What the starts of images touched. */
export class ProfileTable {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Of an image, newest first. */
  get(image: Digest): ProfileRow[] {
    const rows = this.#db
      .prepare<[string], RawRow>('SELECT * FROM profiles WHERE image = ? ORDER BY updated_at DESC, layer, index_id')
      .all(image);
    return readableRows(rows, fromRaw);
  }

  /** Of every image, newest first. */
  list(): ProfileRow[] {
    const rows = this.#db
      .prepare<[], RawRow>('SELECT * FROM profiles ORDER BY updated_at DESC, image, layer, index_id')
      .all();
    return readableRows(rows, fromRaw);
  }

  /**
   * Adds one start, of which all layers are told, also those that it did not touch. One that touched nothing tells nothing and is left out.
   * Returns whether it was taken.
   */
  merge(image: Digest, layers: readonly LayerOrder[], now: number = Date.now()): boolean {
    if (layers.every(({ spans }) => spans.length === 0)) return false;
    this.#db
      .transaction(() => {
        for (const layer of layers) this.#mergeLayer(image, layer, now);
      })
      .immediate();
    return true;
  }

  /** As `merge`, without keeping the process waiting for another one that writes. False also when others wrote all the time. */
  async mergeSoon(image: Digest, layers: readonly LayerOrder[], options?: TrySoonOptions): Promise<boolean> {
    return (await trySoon(this.#db, () => this.merge(image, layers), options)) ?? false;
  }

  /** As `put`, likewise. False when others wrote all the time. */
  async putSoon(
    image: Digest,
    layers: readonly (LayerOrder & { readonly runs: number })[],
    source: string,
    options?: TrySoonOptions,
  ): Promise<boolean> {
    const put = () => {
      this.put(image, layers, source);
      return true;
    };
    return (await trySoon(this.#db, put, options)) ?? false;
  }

  /** Keeps what somebody else recorded of `runs` starts, in place of what is known of these layers by these indexes. */
  put(
    image: Digest,
    layers: readonly (LayerOrder & { readonly runs: number })[],
    source: string,
    now: number = Date.now(),
  ): void {
    this.#db
      .transaction(() => {
        for (const layer of layers) this.#write(image, layer, runsOfOrder(layer.runs, layer.spans), source, now);
      })
      .immediate();
  }

  /** How many layers it forgot. */
  delete(image: Digest): number {
    return this.#db.prepare('DELETE FROM profiles WHERE image = ?').run(image).changes;
  }

  #mergeLayer(image: Digest, layer: LayerOrder, now: number): void {
    const raw = this.#db
      .prepare<[string, string, string], RawRow>(
        'SELECT * FROM profiles WHERE image = ? AND layer = ? AND index_id = ?',
      )
      .get(image, layer.layer, layer.index);
    // One that is damaged is begun anew.
    const [row] = raw === undefined ? [] : readableRows([raw], fromRaw);
    const known = row?.spanCount === layer.spanCount ? row : undefined;
    if (known === undefined && layer.spans.length === 0) return;
    this.#write(image, layer, mergeRun(known ?? noRuns, layer.spans), recordedHere, now);
  }

  #write(image: Digest, layer: CountedLayer, { runs, spans }: MergedRuns, source: string, now: number): void {
    const text = JSON.stringify(spans.map((each) => [each.span, each.runs, Math.round(each.place * 100) / 100]));
    this.#db
      .prepare(
        `INSERT OR REPLACE INTO profiles (image, layer, index_id, format, span_count, runs, spans, source, updated_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      )
      .run(image, layer.layer, layer.index, layer.format, layer.spanCount, runs, text, source, now);
  }
}

const formats: readonly IndexFormat[] = ['peel', 'soci-v1', 'soci-v2'];

function fromRaw(row: RawRow): ProfileRow {
  return {
    image: parseDigest(row.image),
    layer: parseDigest(row.layer),
    index: parseDigest(row.index_id),
    format: formats.find((format) => format === row.format) ?? 'peel',
    spanCount: row.span_count,
    runs: row.runs,
    spans: (JSON.parse(row.spans) as [number, number, number][]).map(
      ([span, runs, place]): ProfileSpan => ({ span, runs, place }),
    ),
    source: row.source,
    updatedAt: row.updated_at,
  };
}
