// What goes on behind layers that are served before they are here: read-ahead, the background fill, and what profiles say.
import { FileMap } from '../layer/file-map.ts';
import type { FillPolicy } from '../layer/fill-policy.ts';
import { LayerFill } from '../layer/layer-fill.ts';
import type { Layer } from '../layer/layer.ts';
import { errorMessage } from '../layer/errors.ts';
import { ReadAhead } from '../layer/read-ahead.ts';
import type { ReadAheadStats } from '../layer/read-ahead.ts';
import { treeExtents } from '../native/tree-extents.ts';
import type { Logger } from '../observe/log.ts';
import type { CacheKeeper } from './cache-keeper.ts';

export interface LazySettings {
  readonly readAhead: { readonly enabled: boolean; readonly budget: number };
  /** Whether layers whose user asks for it are filled at all. */
  readonly fill: boolean;
}

export interface LazyLayersDeps {
  /** Asked for each layer that is attached. */
  readonly settings: () => LazySettings;
  readonly policy: FillPolicy;
  readonly log: Logger;
}

export interface AttachOptions {
  /** Where files begin and end; undefined while the layer is shown nowhere. */
  readonly tree: ShownBy | undefined;
  /** Whether what is likely to be read next is to come before it is. */
  readonly readAhead: boolean;
  /** Whether all of it is to come in the end. */
  readonly fill: boolean;
}

/** Path of the compiled tree that shows a layer, and which of its devices the layer is. */
export interface ShownBy {
  readonly path: () => Promise<string>;
  readonly device: number;
}

/** Somebody's use of a layer that is served. */
export interface AttachedLayer {
  /** Spans that are to come before anybody asks for them, in this order. */
  prefer(spans: readonly number[]): void;
  /** Ends what goes on behind the layer when nobody else uses it. To be called before the layer is closed. Idempotent, never rejects. */
  detach(): Promise<void>;
}

interface Entry {
  readonly layer: Layer;
  /** What others do to look at it. */
  readonly unwatch: (() => void)[];
  readonly unprotect: (() => void)[];
  readonly readAhead: ReadAhead | undefined;
  fill: LayerFill | undefined;
  /** Whether read-ahead knows the layer's files, or is about to. */
  hasFiles: boolean;
  users: number;
}

/** For so long what a profile names stays in the cache, read or not, ms. */
const protectedMs = 300_000;

export class LazyLayers {
  readonly #d: LazyLayersDeps;
  readonly #entries = new Map<Layer, Entry>();
  readonly #watchers: ((layer: Layer) => () => void)[] = [];
  #protect: CacheKeeper['protect'] | undefined;
  /** Of layers that are not served any more. */
  readonly #before = { fetchedBytes: 0, usedBytes: 0 };

  constructor(deps: LazyLayersDeps) {
    this.#d = deps;
  }

  /** Who keeps the cache within its bounds learns from the layers that are attached. */
  keptBy(keeper: Pick<CacheKeeper, 'watch' | 'protect'>): void {
    this.watchedBy((layer) => keeper.watch(layer));
    this.#protect = (layer, spans) => keeper.protect(layer, spans);
  }

  /** `watch` is called with each layer that is or will be attached, and returns what ends it. */
  watchedBy(watch: (layer: Layer) => () => void): void {
    this.#watchers.push(watch);
    for (const { layer, unwatch } of this.#entries.values()) unwatch.push(watch(layer));
  }

  attach(layer: Layer, options: AttachOptions): AttachedLayer {
    const entry = this.#entries.get(layer) ?? this.#begin(layer, options);
    entry.users += 1;
    if (options.tree !== undefined) this.#learnFiles(entry, options.tree);
    if (options.fill && this.#d.settings().fill && !layer.complete) entry.fill ??= this.#startFill(layer);
    let ended: Promise<void> | undefined;
    return {
      prefer: (spans) => {
        layer.want(spans, 'profile');
        const unprotect = this.#protect?.(layer.descriptor.digest, spans);
        if (unprotect !== undefined) this.#endLater(entry, unprotect);
        entry.fill?.prefer(spans);
      },
      detach: () => (ended ??= this.#detach(entry)),
    };
  }

  /** Of all layers there were, bytes of blob; and how many are being filled. */
  stats(): Pick<ReadAheadStats, 'fetchedBytes' | 'usedBytes'> & { readonly filling: number } {
    let { fetchedBytes, usedBytes } = this.#before;
    let filling = 0;
    for (const { readAhead, fill, layer } of this.#entries.values()) {
      const stats = readAhead?.stats();
      fetchedBytes += stats?.fetchedBytes ?? 0;
      usedBytes += stats?.usedBytes ?? 0;
      if (fill !== undefined && !layer.complete) filling += 1;
    }
    return { fetchedBytes, usedBytes, filling };
  }

  #begin(layer: Layer, { readAhead: isWanted }: AttachOptions): Entry {
    const { enabled, budget } = this.#d.settings().readAhead;
    const readAhead = isWanted && enabled && !layer.complete ? new ReadAhead({ layer, budget }) : undefined;
    readAhead?.start();
    const unwatch = this.#watchers.map((watch) => watch(layer));
    const entry: Entry = { layer, unwatch, unprotect: [], readAhead, fill: undefined, hasFiles: false, users: 0 };
    this.#entries.set(layer, entry);
    return entry;
  }

  /** Without files only the order of spans tells what belongs together. */
  #learnFiles(entry: Entry, { path, device }: ShownBy): void {
    const { readAhead } = entry;
    if (readAhead === undefined || entry.hasFiles) return;
    entry.hasFiles = true;
    const learn = async () => {
      const extents = (await treeExtents(await path()))[device];
      if (extents !== undefined) readAhead.useFiles(new FileMap(extents));
    };
    learn().catch((error: unknown) => {
      this.#d.log.debug({ error: errorMessage(error) }, 'read-ahead does not know the files of a layer');
    });
  }

  /** When the start must be over, or the layer is not served any more. */
  #endLater(entry: Entry, unprotect: () => void): void {
    entry.unprotect.push(unprotect);
    setTimeout(unprotect, protectedMs).unref();
  }

  #startFill(layer: Layer): LayerFill {
    const { policy, log } = this.#d;
    const fill = new LayerFill({ layer, policy, log, name: layer.descriptor.digest });
    fill.start();
    return fill;
  }

  async #detach(entry: Entry): Promise<void> {
    entry.users -= 1;
    if (entry.users > 0) return;
    this.#entries.delete(entry.layer);
    const stats = entry.readAhead?.stats();
    this.#before.fetchedBytes += stats?.fetchedBytes ?? 0;
    this.#before.usedBytes += stats?.usedBytes ?? 0;
    for (const unwatch of entry.unwatch) unwatch();
    for (const unprotect of entry.unprotect) unprotect();
    entry.readAhead?.stop();
    entry.layer.forget('read-ahead');
    entry.layer.forget('profile');
    await entry.fill?.stop();
  }
}
