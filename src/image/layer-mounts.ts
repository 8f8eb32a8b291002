// Every layer that a snapshot shows, mounted at `<root>/l/<slot in base 36>`, whoever serves it.
import { mkdir, readdir, realpath, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { errorMessage } from '../layer/errors.ts';
import type { LayerStore } from '../layer/layer-store.ts';
import type { Layer } from '../layer/layer.ts';
import { unmount } from '../native/mounts.ts';
import { treeExtents } from '../native/tree-extents.ts';
import type { Logger } from '../observe/log.ts';
import type { SlotRow } from '../state/slots.ts';
import type { State } from '../state/state.ts';
import { forEach } from '../util/for-each.ts';
import { KeyedLock } from '../util/keyed-lock.ts';
import { ImageError } from './errors.ts';
import { knownLayerRequest } from './known-layer.ts';
import type { AttachedLayer, LazyLayers } from './lazy-layers.ts';
import type { LayerAdoption } from './layer-adoption.ts';
import type { LayerMounter } from './layer-mounter.ts';
import { layerMountsDir } from './layer-mounts-dir.ts';
import { layerMountStatus } from './layer-mount-status.ts';
import type { LayerMountStatus } from './layer-mount-status.ts';
import type { LayerTree, LayerTrees } from './layer-trees.ts';
import type { MountedLayer } from './mounted-layer.ts';
import { mountsAt, mountsByDir, readMountInfo } from './mountinfo.ts';
import type { MountInfo } from './mountinfo.ts';
import type { LayerLease, OpenLayers } from './open-layers.ts';
import type { OpenOrigin } from './origin.ts';

export interface LayerMountsDeps {
  /** The state directory. */
  readonly root: string;
  readonly state: State;
  readonly store: LayerStore;
  readonly open: OpenLayers;
  readonly trees: LayerTrees;
  readonly mounter: LayerMounter;
  readonly openOrigin: OpenOrigin;
  readonly log: Logger;
  /** What goes on behind the layers that are mounted; undefined: only what is read is fetched. Not asked by `adopt`. */
  readonly lazy: () => LazyLayers | undefined;
  /** Requests for one restored layer at once. */
  readonly downloads: number;
}

/** What this process knows of a slot beyond its row. */
export interface MountEntry {
  readonly mounted: MountedLayer;
  /** Undefined when the layer is mounted and its files are gone from the cache. */
  readonly lease: LayerLease | undefined;
  /** Undefined when a restored slot has none. */
  readonly tree: LayerTree | undefined;
  /** Undefined for a layer that is served without this process. */
  readonly attached: AttachedLayer | undefined;
}

const restoresAtOnce = 8;
const adoptsAtOnce = 16;
/** Slots are safe integers in base 36. */
const slotName = /^[0-9a-z]{1,11}$/;

export class LayerMounts {
  readonly #d: LayerMountsDeps;
  /** Of all mount points. */
  readonly #dir: string;
  readonly #entries = new Map<number, MountEntry>();
  readonly #locks = new KeyedLock<string>();

  private constructor(deps: LayerMountsDeps, dir: string) {
    this.#d = deps;
    this.#dir = dir;
  }

  static async open(deps: LayerMountsDeps): Promise<LayerMounts> {
    const dir = layerMountsDir(deps.root);
    // Also people who are not root enter here, as the users of containers; what they may see the layers say themselves.
    await mkdir(dir, { recursive: true, mode: 0o711 });
    // As the mount table spells it.
    return new LayerMounts(deps, await realpath(dir));
  }

  directory(slot: number): string {
    return join(this.#dir, slot.toString(36));
  }

  /** Undefined when the slot is not mounted by this process. */
  get(slot: number): MountEntry | undefined {
    return this.#entries.get(slot);
  }

  /**
   * Mounts these slots again from what is on the node, asking nobody; what other slots left behind goes. One that cannot be restored has
   * no directory any more, so that nobody takes an empty one for the layer, and its error is recorded. Errors: the signal's reason.
   */
  async restore(slots: readonly number[], options: { readonly signal?: AbortSignal | undefined } = {}): Promise<void> {
    const mounts = await readMountInfo();
    await this.#attachAdopted();
    await this.#sweep(new Set(slots), mounts);
    await forEach(
      slots.filter((slot) => !this.#entries.has(slot)),
      restoresAtOnce,
      async (slot) => {
        const row = this.#rowOf(slot);
        if (row === undefined) return this.#d.log.error({ slot }, 'a snapshot shows a slot that is not recorded');
        await this.#locks.run(row.tree, () => this.#restore(row, mountsAt(mounts, this.directory(slot))));
      },
      options,
    );
  }

  /**
   * Mounts a layer's tree where it is not mounted yet, and returns its slot, which is durable. `claimed` is told the slot before anybody
   * can forget it. The lease is the mount's from now on, also when it fails. Errors: ERR_IMAGE_LAYER_MOUNT, those of the file system.
   */
  async mount(tree: LayerTree, lease: LayerLease, claimed: (slot: number) => void): Promise<number> {
    const { state } = this.#d;
    const { layer } = lease;
    try {
      return await this.#locks.run(tree.key, async () => {
        const slot = state.slots.claim({
          tree: tree.key,
          layer: layer.descriptor.digest,
          reason: state.layers.get(layer.descriptor.digest)?.reason ?? layer.row.reason,
        });
        claimed(slot);
        const entry = this.#entries.get(slot);
        if (entry !== undefined) {
          this.#entries.set(slot, { ...entry, lease: entry.lease ?? lease, tree });
          if (entry.lease !== undefined) await lease.release();
          return slot;
        }
        try {
          await this.#clear(slot, mountsAt(await readMountInfo(), this.directory(slot)));
          await this.#mountAt(slot, tree, lease);
        } catch (error) {
          await this.#fail(slot, errorMessage(error));
          throw error;
        }
        return slot;
      });
    } catch (error) {
      await lease.release();
      throw error;
    }
  }

  /**
   * Unmounts the slots that `mayGo` still allows when their turn comes, and frees what only they used: tree, cached layer, sources.
   * Never rejects for one of them; what could not be freed is logged and stays for the next time.
   */
  async forget(slots: readonly number[], mayGo: (slot: number) => boolean = () => true): Promise<void> {
    for (const slot of slots) {
      const row = this.#d.state.slots.get(slot);
      if (row === undefined) continue;
      try {
        await this.#locks.run(row.tree, async () => {
          if (mayGo(slot)) await this.#forget(row);
        });
      } catch (error) {
        this.#d.log.warn({ slot, layer: row.layer, error: errorMessage(error) }, 'layer could not be forgotten');
      }
    }
  }

  status(): LayerMountStatus[] {
    return this.#d.state.slots.list().map((row) => layerMountStatus(row, this.#entries.get(row.slot)));
  }

  fuseErrors(): number {
    return this.#d.mounter.fuseErrors();
  }

  /** Does what the first mount would wait for. Never rejects. */
  async prepare(): Promise<void> {
    await this.#d.mounter.prepare();
  }

  /** Why the kernel does not mount trees here; undefined when it does. */
  kernelRefusal(): Promise<string | undefined> {
    return this.#d.mounter.refusal();
  }

  /** Ends the serving and closes the layers; unmounts nothing. Idempotent. */
  async close(): Promise<void> {
    const entries = [...this.#entries.values()];
    this.#entries.clear();
    await this.#d.mounter.close();
    await Promise.all(entries.map(async ({ attached }) => await attached?.detach()));
    await Promise.all(entries.map(async ({ lease }) => await lease?.release()));
  }

  /** What processes before this one left at places that no snapshot shows. */
  async #sweep(shown: ReadonlySet<number>, mounts: readonly MountInfo[]): Promise<void> {
    for (const name of await readdir(this.#dir)) {
      const slot = slotName.test(name) ? Number.parseInt(name, 36) : undefined;
      if (slot !== undefined && shown.has(slot)) continue;
      const dir = join(this.#dir, name);
      await takeDown(dir, mountsAt(mounts, dir)).catch((error: unknown) => {
        this.#d.log.warn({ dir, error: errorMessage(error) }, 'cannot clear away a mount of an earlier process');
      });
    }
  }

  /** Undefined too where the row is damaged: it must not keep the others from being served. */
  #rowOf(slot: number): SlotRow | undefined {
    try {
      return this.#d.state.slots.get(slot);
    } catch (error) {
      this.#d.log.error({ slot, error: errorMessage(error) }, 'the row of a slot is damaged');
      return undefined;
    }
  }

  async #restore(row: SlotRow, there: readonly MountInfo[]): Promise<void> {
    const { log, state, trees } = this.#d;
    const { slot } = row;
    let lease: LayerLease | undefined;
    try {
      const tree = await trees.find(row.tree);
      const opened = await this.#openReady(row).catch((error: unknown) => errorMessage(error));
      lease = typeof opened === 'string' ? undefined : opened;
      if (row.direct && isOwnErofs(there)) {
        // A container that runs may use it.
        const mounted: MountedLayer = { transport: 'kernel', direct: true, retire: async () => {} };
        this.#entries.set(slot, { mounted, lease, tree, attached: undefined });
        const gone = typeof opened === 'string' ? `mounted, but not in the cache any more: ${opened}` : undefined;
        state.slots.setError(slot, gone);
        return;
      }
      await this.#clear(slot, there);
      if (typeof opened === 'string') throw new ImageError('ERR_IMAGE_LAYER_MOUNT', opened);
      if (tree === undefined) throw new ImageError('ERR_IMAGE_LAYER_MOUNT', 'its tree is gone from the node');
      await this.#mountAt(slot, tree, opened);
      state.slots.setError(slot, undefined);
    } catch (error) {
      await lease?.release();
      const why = `not restored: ${errorMessage(error)}`;
      log.error({ slot, layer: row.layer, error: why }, 'layer cannot be mounted again');
      await this.#fail(slot, why);
    }
  }

  async #attachAdopted(): Promise<void> {
    await forEach([...this.#entries], restoresAtOnce, async ([slot, entry]) => {
      const { lease, mounted, attached } = entry;
      if (lease === undefined || mounted.direct || attached !== undefined) return;
      const tree = entry.tree ?? (await this.#treeOf(slot));
      if (tree === undefined) return;
      this.#entries.set(slot, { ...entry, tree, attached: this.#attach(lease.layer, tree) });
    });
  }

  async #treeOf(slot: number): Promise<LayerTree | undefined> {
    const row = this.#rowOf(slot);
    return row && (await this.#d.trees.find(row.tree));
  }

  /**
   * Before `restore` and first of all, because containers wait for it: what an earlier process served goes on. What does not fit is left to
   * `restore`.
   */
  async adopt(slots: readonly number[]): Promise<void> {
    const adoption = this.#d.mounter.adoption();
    if (adoption === undefined) return;
    const mounts = mountsByDir(await readMountInfo());
    try {
      await forEach(slots, adoptsAtOnce, async (slot) => {
        const row = this.#rowOf(slot);
        if (row === undefined || row.direct) return;
        try {
          await this.#adoptSlot(adoption, row, mounts.get(this.directory(slot)) ?? []);
        } catch (error) {
          this.#d.log.warn({ slot, layer: row.layer, error: errorMessage(error) }, 'layer cannot be adopted');
        }
      });
    } finally {
      this.#d.mounter.start(adoption);
    }
  }

  async #adoptSlot(adoption: LayerAdoption, row: SlotRow, there: readonly MountInfo[]): Promise<void> {
    const { state, trees } = this.#d;
    const { slot } = row;
    const isBlob = adoption.hasBlob(slot) && isOwnErofs(there);
    if (!isBlob && !isOwnTree(there)) return;
    // What shows a blob is in the kernel's hands, and what goes on behind the layer can wait.
    const tree = isBlob ? undefined : await trees.find(row.tree);
    const lease = await this.#openReady(row);
    if (typeof lease === 'string') throw new ImageError('ERR_IMAGE_LAYER_MOUNT', lease);
    let mounted: MountedLayer | undefined;
    try {
      const { layer } = lease;
      if (isBlob) mounted = adoption.adoptBlob({ slot, layer });
      else if (tree !== undefined) mounted = await adoption.adoptTree({ slot, layer, tree: tree.path });
    } finally {
      if (mounted === undefined) await lease.release();
    }
    if (mounted === undefined) return;
    this.#entries.set(slot, { mounted, lease, tree, attached: undefined });
    if (row.error !== undefined) state.slots.setError(slot, undefined);
  }

  /** Leaves no directory that could be taken for the layer. Never rejects. */
  async #fail(slot: number, why: string): Promise<void> {
    try {
      await rmdir(this.directory(slot));
    } catch {
      // Nothing was there.
    }
    try {
      this.#d.state.slots.setError(slot, why);
    } catch (error) {
      this.#d.log.error({ slot, error: errorMessage(error) }, 'why a layer is not mounted cannot be recorded');
    }
  }

  /** The layer of a slot as it lies on the node, or why it cannot be served. */
  async #openReady(row: SlotRow): Promise<LayerLease | string> {
    const { state, store, open, openOrigin, log, downloads } = this.#d;
    const known = state.layers.get(row.layer);
    if (known === undefined) return 'nothing is recorded of it';
    if (known.suspect !== undefined) return known.suspect;
    const request = knownLayerRequest({ sources: state.layerSources, openOrigin, log, downloads }, known);
    const lease = await open.acquire(row.layer, () => store.openIfReady(request));
    return lease ?? 'its index is gone from the cache';
  }

  async #mountAt(slot: number, tree: LayerTree, lease: LayerLease): Promise<void> {
    const { state, mounter } = this.#d;
    const dir = this.directory(slot);
    // Said of what is there only once it is there.
    state.slots.setDirect(slot, false);
    await mkdir(dir, { recursive: true, mode: 0o700 });
    const mounted = await mounter.mount({ slot, layer: lease.layer, tree: tree.path, dir });
    const attached = mounted.direct ? undefined : this.#attach(lease.layer, tree);
    this.#entries.set(slot, { mounted, lease, tree, attached });
    if (mounted.direct) state.slots.setDirect(slot, true);
  }

  /** All of a layer that containers may use comes in the end. */
  #attach(layer: Layer, tree: LayerTree): AttachedLayer | undefined {
    const files = async () => (await treeExtents(tree.path))[0];
    return this.#d.lazy()?.attach(layer, { files, readAhead: true, fill: true });
  }

  async #clear(slot: number, there: readonly MountInfo[]): Promise<void> {
    if (there.length === 0) return;
    this.#d.state.slots.setDirect(slot, false);
    await takeDown(this.directory(slot), there);
  }

  async #forget(row: SlotRow): Promise<void> {
    const { state, store, trees } = this.#d;
    const { slot, layer } = row;
    const entry = this.#entries.get(slot);
    const dir = this.directory(slot);
    await takeDown(dir, mountsAt(await readMountInfo(), dir));
    this.#entries.delete(slot);
    await entry?.mounted.retire();
    await entry?.attached?.detach();
    await entry?.lease?.release();
    // The row goes last: what is cut off half way is done again.
    await trees.remove([row.tree]);
    state.slots.delete(slot);
    // False when somebody else uses it: then it is the cache's to evict.
    if (state.slots.byLayer(layer).length === 0 && (await store.remove(layer))) state.layerSources.delete(layer);
  }
}

/** Neither the mount nor what is below it is looked at: its server may be dead. */
async function takeDown(dir: string, there: readonly MountInfo[]): Promise<void> {
  for (const _ of there) await unmount(dir, { detach: true });
  await rmdir(dir).catch((error: unknown) => {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
  });
}

function isOwnTree(there: readonly MountInfo[]): boolean {
  return there.length === 1 && there[0]?.fsType === 'fuse.peel';
}

function isOwnErofs(there: readonly MountInfo[]): boolean {
  return there.length === 1 && there[0]?.fsType === 'erofs';
}
