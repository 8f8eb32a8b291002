import { join } from 'node:path';
import { openDatabase } from './database.ts';
import { ImageTable } from './images.ts';
import { IndexTable } from './indexes.ts';
import { LayerTable } from './layers.ts';
import { MountTable } from './mounts.ts';

/** The node's durable facts, one table group per property. */
export interface State {
  readonly images: ImageTable;
  readonly indexes: IndexTable;
  readonly layers: LayerTable;
  readonly mounts: MountTable;
  /** Throws when the database does not answer. */
  check(): void;
  /** Idempotent. */
  close(): void;
}

/** Errors: StateError. */
export function openState(root: string): State {
  const db = openDatabase(join(root, 'peel.db'));
  return {
    images: new ImageTable(db),
    indexes: new IndexTable(db),
    layers: new LayerTable(db),
    mounts: new MountTable(db),
    check: () => {
      db.prepare('SELECT count(*) FROM sqlite_schema').get();
    },
    close: () => {
      db.close();
    },
  };
}
