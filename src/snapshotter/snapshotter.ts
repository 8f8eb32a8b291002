import { errorMessage } from '../layer/errors.ts';
import type { Logger } from '../observe/log.ts';
import type { LayerDirectory, SnapshotKind, SnapshotRow, SnapshotTable } from '../state/snapshots.ts';
import { KeyedLock } from '../util/keyed-lock.ts';
import { OnceMap } from '../util/once-map.ts';
import { refLabel } from './committed-layer.ts';
import { containerStart } from './container-start.ts';
import { checkFree, createSnapshot, mountsOfRow } from './create-snapshot.ts';
import type { SnapshotParts, SnapshotRequest } from './create-snapshot.ts';
import { SnapshotDirectories } from './directories.ts';
import { SnapshotError } from './errors.ts';
import { parseFilters } from './filters.ts';
import type { DiskUsage, Labels, LayerProvider } from './layer-provider.ts';
import type { Mount } from './mounts.ts';
import { PrepareOutcomes } from './outcomes.ts';
import type { PrepareOutcome, PrepareReport } from './outcomes.ts';
import { provideLayer } from './provide-layer.ts';
import { checkKey, checkedLabels } from './requests.ts';
import { SnapshotSync } from './snapshot-sync.ts';
import { updatedLabels } from './update-labels.ts';
import type { LabelUpdate } from './update-labels.ts';
import { UsageMeter } from './usage-meter.ts';

export interface SnapshotterOptions {
  /** State directory, absolute; directories of snapshots are in `<root>/s`. */
  readonly root: string;
  readonly table: SnapshotTable;
  readonly layers: LayerProvider;
  /** Overlays are mounted in a user namespace. */
  readonly userXattr: boolean;
  /** How long containerd waits for a layer before it is left to it, unless it is being unpacked. */
  readonly prepareTimeoutMs: number;
  /** Of the machine, as it runs now. */
  readonly boot: string;
  /** Writes all of the filesystem at `path` to disk. */
  readonly syncFilesystem: (path: string) => Promise<void>;
  readonly log: Logger;
  /** Once for every Prepare of a layer. */
  readonly onOutcome?: ((report: PrepareReport) => void) | undefined;
}

export interface CommitRequest {
  readonly key: string;
  readonly name: string;
  readonly labels: Labels;
}

export interface SnapshotterStatus {
  readonly snapshots: Readonly<Record<SnapshotKind, number>>;
  /** Prepares of layers since the start. */
  readonly outcomes: Readonly<Record<PrepareOutcome, number>>;
  /** Layers that containerd unpacks, oldest first. */
  readonly left: readonly LayerDirectory[];
  /** Layers that peel unpacked, oldest first. */
  readonly unpacked: readonly LayerDirectory[];
}

export interface CallOptions {
  readonly signal: AbortSignal;
  /** containerd's namespace that asks, where it said so. */
  readonly namespace?: string | undefined;
}

/**
 * The ten calls of containerd's Snapshots service, and what they mean. What was answered is durable. Errors: SnapshotError; whatever else
 * comes is a fault of the machine or of ours.
 */
export class Snapshotter {
  readonly #parts: SnapshotParts;
  readonly #prepareTimeoutMs: number;
  readonly #log: Logger;
  readonly #outcomes: PrepareOutcomes;
  readonly #meter: UsageMeter;
  readonly #cleanups = new OnceMap<'cleanup', void>();
  readonly #sync: SnapshotSync;
  readonly #claims = new KeyedLock<number>();

  constructor(options: SnapshotterOptions) {
    const { root, table, layers, userXattr, prepareTimeoutMs, boot, syncFilesystem, log, onOutcome } = options;
    const directories = new SnapshotDirectories(root);
    this.#parts = { table, layers, directories, userXattr, boot };
    this.#prepareTimeoutMs = prepareTimeoutMs;
    this.#log = log;
    this.#outcomes = new PrepareOutcomes(onOutcome);
    this.#meter = new UsageMeter({ table, layers, directories });
    this.#sync = new SnapshotSync({ table, root, boot, syncFilesystem, log });
  }

  /** An active snapshot. Asked for a layer that needs no unpacking: ERR_SNAPSHOT_EXISTS. */
  async prepare(request: SnapshotRequest, { signal, namespace }: CallOptions): Promise<Mount[]> {
    const checked = this.#checked(request);
    const chainId = checked.labels[refLabel];
    if (chainId === undefined) {
      const mounts = await this.#create('active', checked, signal);
      this.#tellStart(checked.parent);
      return mounts;
    }
    checkFree(this.#parts.table, checked.key);
    const left = await provideLayer(
      {
        ...this.#parts,
        sync: this.#sync,
        claims: this.#claims,
        timeoutMs: this.#prepareTimeoutMs,
        log: this.#log,
        outcomes: this.#outcomes,
      },
      { ...checked, chainId, namespace, signal },
    );
    const { image, layer, reason } = left;
    const throughMount = left.code === 'layer';
    return await createSnapshot(this.#parts, {
      ...checked,
      image,
      layer,
      reason,
      throughMount,
      kind: 'active',
      signal,
    });
  }

  async view(request: SnapshotRequest, { signal }: CallOptions): Promise<Mount[]> {
    return await this.#create('view', this.#checked(request), signal);
  }

  mounts(key: string): Mount[] {
    return mountsOfRow(this.#parts, this.stat(key));
  }

  /** Waits for nobody: containerd holds its own database meanwhile. */
  commit({ key, name, labels }: CommitRequest): void {
    const { table } = this.#parts;
    checkKey(key);
    checkKey(name, 'name');
    const kept = checkedLabels(labels);
    table.durably(() => {
      if (table.get(name) !== undefined) {
        throw new SnapshotError('ERR_SNAPSHOT_EXISTS', `committed snapshot ${JSON.stringify(name)} exists`);
      }
      const row = this.stat(key);
      if (row.kind !== 'active') {
        throw new SnapshotError('ERR_SNAPSHOT_STATE', `snapshot ${JSON.stringify(key)} is not active`);
      }
      table.commit(row.id, { key: name, labels: kept });
    });
  }

  /** Touches the database only; `cleanup` frees. */
  remove(key: string): void {
    const { table, layers } = this.#parts;
    const unshown = table.durably(() => {
      const row = this.stat(key);
      if (table.hasChildren(row.id)) {
        throw new SnapshotError('ERR_SNAPSHOT_STATE', `cannot remove snapshot ${JSON.stringify(key)}: it has children`);
      }
      table.delete(row.id);
      return row.slot !== undefined && !table.isShown(row.slot) ? row.slot : undefined;
    });
    if (unshown !== undefined) layers.released([unshown]);
  }

  /** Errors: ERR_SNAPSHOT_UNKNOWN. */
  stat(key: string): SnapshotRow {
    checkKey(key);
    const row = this.#parts.table.get(key);
    if (row !== undefined) return row;
    throw new SnapshotError('ERR_SNAPSHOT_UNKNOWN', `snapshot ${JSON.stringify(key)} does not exist`);
  }

  update(key: string, update: LabelUpdate): SnapshotRow {
    const { table } = this.#parts;
    return table.durably(() => {
      const row = this.stat(key);
      table.replaceLabels(row.id, updatedLabels(key, row.labels, update));
      return this.stat(key);
    });
  }

  /** In the order they were made. */
  list(filters: readonly string[]): SnapshotRow[] {
    const { table } = this.#parts;
    const filter = parseFilters(filters);
    const { label } = filter;
    return filter.select(label === undefined ? table.list() : table.labelled(label.name, label.value));
  }

  async usage(key: string, { signal }: CallOptions): Promise<DiskUsage> {
    return await this.#meter.usage(this.stat(key), { signal });
  }

  /** Frees what removed snapshots leave, and what a crash left. */
  async cleanup({ signal }: CallOptions): Promise<void> {
    const { table, layers, directories } = this.#parts;
    await this.#cleanups.run(
      'cleanup',
      async (shared) => {
        await directories.clean(() => table.directoryIds(), { log: this.#log, signal: shared });
        await layers.collect();
      },
      { signal },
    );
  }

  status(): SnapshotterStatus {
    const { table } = this.#parts;
    return {
      snapshots: table.counts(),
      outcomes: this.#outcomes.counts,
      left: table.leftToContainerd().map(lineOf),
      unpacked: table.unpackedHere().map(lineOf),
    };
  }

  /** Writes to disk what is not there yet. Idempotent. */
  async close(): Promise<void> {
    await this.#sync.close();
  }

  async #create(kind: 'view' | 'active', request: SnapshotRequest, signal: AbortSignal): Promise<Mount[]> {
    const options = { ...request, kind, signal, image: undefined, layer: undefined, reason: undefined };
    return await createSnapshot(this.#parts, options);
  }

  #tellStart(parent: string): void {
    const { table, layers } = this.#parts;
    try {
      const start = containerStart(table, parent);
      if (start !== undefined) layers.starting(start);
    } catch (error) {
      // The snapshot is there, whoever cannot be told.
      this.#log.warn({ parent, error: errorMessage(error) }, 'nobody was told that a container starts');
    }
  }

  #checked(request: SnapshotRequest): SnapshotRequest {
    checkKey(request.key);
    return { key: request.key, parent: request.parent, labels: checkedLabels(request.labels) };
  }
}

function lineOf({ key, kind, image, layer, reason }: LayerDirectory): LayerDirectory {
  return { key, kind, image, layer, reason };
}
