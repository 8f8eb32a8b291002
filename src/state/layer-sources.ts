import type { Digest } from '../oci/digest.ts';
import type { Database } from './database.ts';

/** Of one layer; the ones used longest ago are forgotten. */
const referencesPerLayer = 8;

/** References of images that have a layer: where its bytes can be had from. */
export class LayerSourceTable {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Records that the image `reference` has these layers. */
  put(layers: readonly Digest[], reference: string, now: number = Date.now()): void {
    const insert = this.#db.prepare(
      'INSERT OR REPLACE INTO layer_sources (layer, reference, used_at) VALUES (?, ?, ?)',
    );
    const forget = this.#db.prepare(
      `DELETE FROM layer_sources WHERE layer = ? AND reference NOT IN
       (SELECT reference FROM layer_sources WHERE layer = ? ORDER BY used_at DESC, reference LIMIT ?)`,
    );
    this.#db.transaction(() => {
      for (const layer of layers) {
        insert.run(layer, reference, now);
        forget.run(layer, layer, referencesPerLayer);
      }
    })();
  }

  /** Used last first; at most 8. */
  of(layer: Digest): string[] {
    return this.#db
      .prepare<[string], { reference: string }>(
        'SELECT reference FROM layer_sources WHERE layer = ? ORDER BY used_at DESC, reference',
      )
      .all(layer)
      .map(({ reference }) => reference);
  }

  delete(layer: Digest): void {
    this.#db.prepare('DELETE FROM layer_sources WHERE layer = ?').run(layer);
  }
}
