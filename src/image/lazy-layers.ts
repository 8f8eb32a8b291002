// What goes on behind layers that are served before they are here: read-ahead, the background fill, and what profiles say.
import { FileMap } from '../layer/file-map.ts';
import type { FillPolicy } from '../layer/fill-policy.ts';
import { LayerFill } from '../layer/layer-fill.ts';
import type { Layer } from '../layer/layer.ts';
import { errorMessage } from '../layer/errors.ts';
import { ReadAhead } from '../layer/read-ahead.ts';
import type { ReadAheadStats } from '../layer/read-ahead.ts';
import type { Logger } from '../observe/log.ts';
import type { CacheKeeper } from './cache-keeper.ts';

export interface LazySettings {
  readonly readAhead: { readonly enabled: boolean; readonly budget: number };
  /** Whether layers whose user asks for it are filled at all. */
  readonly fill: boolean;
}

export interface LazyLayersDeps {
  /** As they are now; who changes them calls `reload`. */
  readonly settings: () => LazySettings;
  readonly policy: FillPolicy;
  readonly log: Logger;
}

export interface AttachOptions {
  /** Where the files of the layer begin and end in its stream, as `FileMap` takes it; undefined while the layer is shown nowhere. */
  readonly files: (() => Promise<Float64Array | undefined>) | undefined;
  /** Whether what is likely to be read next is to come before it is. */
  readonly readAhead: boolean;
  /** Whether all of it is to come in the end. */
  readonly fill: boolean;
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
  files: AttachOptions['files'];
  /** What others do to look at it. */
  readonly unwatch: (() => void)[];
  readonly unprotect: Set<() => void>;
  readAhead: ReadAhead | undefined;
  fill: LayerFill | undefined;
  /** Those that use it, and those of them that ask for the one and the other. */
  users: number;
  reading: number;
  filling: number;
}

/** For so long what a profile names stays in the cache, read or not, ms. */
const protectedMs = 300_000;

export class LazyLayers {
  readonly #d: LazyLayersDeps;
  readonly #entries = new Map<Layer, Entry>();
  readonly #watchers: ((layer: Layer) => () => void)[] = [];
  #protect: CacheKeeper['protect'] | undefined;
  #room: () => number = () => Infinity;
  /** Of layers that are not served any more. */
  readonly #before = { fetchedBytes: 0, usedBytes: 0 };

  constructor(deps: LazyLayersDeps) {
    this.#d = deps;
  }

  /** Who keeps the cache within its bounds learns from the layers that are attached. */
  keptBy(keeper: Pick<CacheKeeper, 'watch' | 'protect' | 'readAheadRoom'>): void {
    this.watchedBy((layer) => keeper.watch(layer));
    this.#protect = (layer, spans) => keeper.protect(layer, spans);
    this.#room = () => keeper.readAheadRoom();
  }

  /** `watch` is called with each layer that is or will be attached, and returns what ends it. */
  watchedBy(watch: (layer: Layer) => () => void): void {
    this.#watchers.push(watch);
    for (const { layer, unwatch } of this.#entries.values()) unwatch.push(watch(layer));
  }

  attach(layer: Layer, { files, readAhead, fill }: AttachOptions): AttachedLayer {
    const entry = this.#entries.get(layer) ?? this.#begin(layer);
    entry.users += 1;
    if (readAhead) entry.reading += 1;
    if (fill) entry.filling += 1;
    void this.#settle(entry);
    if (files !== undefined) this.#shownBy(entry, files);
    let ended: Promise<void> | undefined;
    return {
      prefer: (spans) => this.prefer(layer, spans),
      detach: () => (ended ??= this.#detach(entry, { readAhead, fill })),
    };
  }

  /** These are to come before anybody asks for them, in this order, and then stay for a while; the layer need not be attached yet. */
  prefer(layer: Layer, spans: readonly number[]): void {
    if (spans.length === 0) return;
    layer.want(spans, 'profile');
    const entry = this.#entries.get(layer);
    entry?.fill?.prefer(spans);
    const unprotect = this.#protect?.(layer.descriptor.digest, spans);
    if (unprotect === undefined) return;
    const end = () => {
      unprotect();
      clearTimeout(timer);
      entry?.unprotect.delete(end);
    };
    // When the start must be over, or the layer is not served any more.
    const timer = setTimeout(end, protectedMs).unref();
    entry?.unprotect.add(end);
  }

  /** `work` is waited for by somebody who has nothing to read yet: layers are filled after it, if it does not take long. */
  yieldTo<T>(work: () => Promise<T>): Promise<T> {
    return this.#d.policy.yieldTo(work);
  }

  /** The settings are others. */
  reload(): void {
    for (const entry of this.#entries.values()) void this.#settle(entry);
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

  #begin(layer: Layer): Entry {
    const unwatch = this.#watchers.map((watch) => watch(layer));
    const nobody = { users: 0, reading: 0, filling: 0 };
    const entry: Entry = {
      layer,
      files: undefined,
      unwatch,
      unprotect: new Set(),
      readAhead: undefined,
      fill: undefined,
      ...nobody,
    };
    this.#entries.set(layer, entry);
    return entry;
  }

  /** Begins and ends what its users and the settings ask for. Resolves when what was ended is over. */
  async #settle(entry: Entry): Promise<void> {
    const { layer, reading, filling } = entry;
    const settings = this.#d.settings();
    if (reading === 0 || !settings.readAhead.enabled) this.#endReadAhead(entry);
    else if (entry.readAhead === undefined && !layer.complete) this.#startReadAhead(entry, settings.readAhead.budget);
    if (filling > 0 && settings.fill) {
      if (!layer.complete) entry.fill ??= this.#startFill(layer);
      return;
    }
    const { fill } = entry;
    entry.fill = undefined;
    await fill?.stop();
  }

  /** Whoever shows the layer first says where its files are. */
  #shownBy(entry: Entry, files: NonNullable<AttachOptions['files']>): void {
    if (entry.files !== undefined) return;
    entry.files = files;
    if (entry.readAhead !== undefined) void this.#learnFiles(entry.readAhead, files);
  }

  #startReadAhead(entry: Entry, budget: number): void {
    const readAhead = new ReadAhead({ layer: entry.layer, budget, room: () => this.#room() });
    entry.readAhead = readAhead;
    readAhead.start();
    if (entry.files !== undefined) void this.#learnFiles(readAhead, entry.files);
  }

  #endReadAhead(entry: Entry): void {
    const { readAhead } = entry;
    if (readAhead === undefined) return;
    entry.readAhead = undefined;
    const { fetchedBytes, usedBytes } = readAhead.stats();
    this.#before.fetchedBytes += fetchedBytes;
    this.#before.usedBytes += usedBytes;
    readAhead.stop();
    entry.layer.forget('read-ahead');
  }

  /** Never rejects: without files only the order of spans tells what belongs together. */
  async #learnFiles(readAhead: ReadAhead, files: NonNullable<AttachOptions['files']>): Promise<void> {
    try {
      const pairs = await files();
      if (pairs !== undefined) readAhead.useFiles(new FileMap(pairs));
    } catch (error) {
      this.#d.log.debug({ error: errorMessage(error) }, 'read-ahead does not know the files of a layer');
    }
  }

  #startFill(layer: Layer): LayerFill {
    const { policy, log } = this.#d;
    const fill = new LayerFill({ layer, policy, log, name: layer.descriptor.digest });
    fill.start();
    return fill;
  }

  async #detach(entry: Entry, { readAhead, fill }: Pick<AttachOptions, 'readAhead' | 'fill'>): Promise<void> {
    entry.users -= 1;
    if (readAhead) entry.reading -= 1;
    if (fill) entry.filling -= 1;
    const settled = this.#settle(entry);
    if (entry.users === 0) {
      this.#entries.delete(entry.layer);
      for (const unwatch of entry.unwatch) unwatch();
      for (const unprotect of entry.unprotect) unprotect();
      entry.layer.forget('profile');
    }
    await settled;
  }
}
