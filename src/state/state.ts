import { join } from 'node:path';
import { ConnectionTable } from './connections.ts';
import { openDatabase } from './database.ts';
import { ImageTable } from './images.ts';
import { IndexTable } from './indexes.ts';
import { Integrity } from './integrity.ts';
import { LayerSourceTable } from './layer-sources.ts';
import { LayerTable } from './layers.ts';
import { MountTable } from './mounts.ts';
import { ProfileTable } from './profiles.ts';
import { SecretTable } from './secrets.ts';
import { SlotTable } from './slots.ts';
import { SnapshotTable } from './snapshots.ts';
import { StartTable } from './starts.ts';
import { UnpackJobTable } from './unpack-jobs.ts';
import { ZtocTable } from './ztocs.ts';

/** The node's durable facts, one table group per property. */
export interface State {
  readonly connections: ConnectionTable;
  readonly images: ImageTable;
  readonly indexes: IndexTable;
  readonly integrity: Integrity;
  readonly layers: LayerTable;
  readonly layerSources: LayerSourceTable;
  readonly mounts: MountTable;
  readonly profiles: ProfileTable;
  readonly secrets: SecretTable;
  readonly slots: SlotTable;
  readonly snapshots: SnapshotTable;
  readonly starts: StartTable;
  readonly unpackJobs: UnpackJobTable;
  readonly ztocs: ZtocTable;
  /** Throws when the database does not answer. */
  check(): void;
  /** Idempotent. */
  close(): void;
}

/** Errors: StateError. */
export function openState(root: string): State {
  const db = openDatabase(join(root, 'peel.db'));
  return {
    connections: new ConnectionTable(db),
    images: new ImageTable(db),
    indexes: new IndexTable(db),
    integrity: new Integrity(db),
    layers: new LayerTable(db),
    layerSources: new LayerSourceTable(db),
    mounts: new MountTable(db),
    profiles: new ProfileTable(db),
    secrets: new SecretTable(db),
    slots: new SlotTable(db),
    snapshots: new SnapshotTable(db),
    starts: new StartTable(db),
    unpackJobs: new UnpackJobTable(db),
    ztocs: new ZtocTable(db),
    check: () => {
      db.prepare('SELECT count(*) FROM sqlite_schema').get();
    },
    close: () => {
      db.close();
    },
  };
}
