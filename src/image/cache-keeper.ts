// Keeps the cache within its bounds while layers are served: measures it, and makes room when it has become too full.
import { cacheBounds } from '../config/cache-bounds.ts';
import type { CacheBounds, CacheSettings } from '../config/cache-bounds.ts';
import { errorCode, errorMessage } from '../layer/errors.ts';
import type { Layer } from '../layer/layer.ts';
import { isMemoryShort } from '../layer/memory-shortage.ts';
import type { FsStat } from '../native/sys.ts';
import type { Logger } from '../observe/log.ts';
import type { Digest } from '../oci/digest.ts';
import { humanBytes } from '../util/human-bytes.ts';
import { CacheLevel } from './cache-level.ts';
import { KeeperLock } from './keeper-lock.ts';
import { makeRoom } from './make-room.ts';
import type { CacheStock, RoomMade } from './make-room.ts';
import { ProtectedSpans } from './protected-spans.ts';

export interface CacheKeeperOptions {
  /** The state directory. */
  readonly root: string;
  /** As they are now: they may change while it runs. */
  readonly settings: () => CacheSettings;
  readonly stock: CacheStock;
  /** Of the file system that holds the root. */
  readonly space: () => Pick<FsStat, 'totalBytes' | 'freeBytes'>;
  readonly log: Logger;
  readonly timing?: Partial<KeeperTiming> | undefined;
}

export interface KeeperTiming {
  /** ms between two looks at the file system while the cache changes, and while it does not. */
  readonly busyMs: number;
  readonly idleMs: number;
  /** ms after which a cache that changes is measured again, although it is not full. */
  readonly measureMs: number;
  /** Spans that were read within so many seconds stay … */
  readonly recentSeconds: number;
  /** … and within so many where the limit is passed or the disk is full: the limit is a promise, too. */
  readonly leastSeconds: number;
  /** ms after the disk refused something in which nothing is brought that nobody waits for. */
  readonly refusedMs: number;
}

const usualTiming: KeeperTiming = {
  busyMs: 1_000,
  idleMs: 5_000,
  measureMs: 30_000,
  recentSeconds: 30,
  leastSeconds: 2,
  refusedMs: 10_000,
};

export interface KeeperStats {
  /** Bytes on disk; undefined before the cache was measured. */
  readonly usedBytes: number | undefined;
  readonly limitBytes: number | undefined;
  /** Since this process began. */
  readonly evictedBytes: number;
  readonly evictedSpans: number;
  readonly removedLayers: number;
}

export class CacheKeeper {
  readonly #o: CacheKeeperOptions;
  readonly #timing: KeeperTiming;
  readonly #level = new CacheLevel();
  readonly #protected = new ProtectedSpans();
  readonly #lock: KeeperLock;
  readonly #closing = new AbortController();
  #bounds: CacheBounds | undefined;
  #measuredAt = -Infinity;
  #isDiskFull = false;
  /** When it was looked at last. */
  #isMemoryShort = false;
  /** What the disk said last when it took nothing, and until when (ms of `performance.now()`) only what is waited for is brought. */
  #refusal: { readonly why: string; readonly until: number } | undefined;
  /** Until then (ms of `performance.now()`) nothing more is tried: what could not go a moment ago cannot go now. */
  #restUntil = 0;
  #timer: NodeJS.Timeout | undefined;
  #checking: Promise<void> | undefined;
  #isCheckWanted = false;
  #saidStuck = false;
  #totals = { evictedBytes: 0, evictedSpans: 0, removedLayers: 0 };

  constructor(options: CacheKeeperOptions) {
    this.#o = options;
    this.#timing = { ...usualTiming, ...options.timing };
    this.#lock = new KeeperLock(options.root);
  }

  /** Looks after the cache from now on, if no other process does. Keeps no process alive. */
  start(): void {
    this.#plan(0);
  }

  /** Learns from a layer what comes into the cache, and that the disk is full. Returns what ends it. */
  watch({ activity, spans }: Pick<Layer, 'activity' | 'spans'>): () => void {
    return activity.observe({
      fetched: ({ span }) => {
        const { streamStart, streamEnd } = spans.span(span);
        this.landed(streamEnd - streamStart);
      },
      refused: (error) => this.refused(error),
    });
  }

  /** Spans of a container that starts stay, read or not. For this process's passes only. Returns what ends it. */
  protect(layer: Digest, spans: Iterable<number>): () => void {
    return this.#protected.add(layer, spans);
  }

  /** So many bytes came into the cache. */
  landed(bytes: number): void {
    this.#level.landed(bytes);
    if (this.#refusal !== undefined && performance.now() >= this.#refusal.until) {
      this.#refusal = undefined;
      this.#o.log.info({ root: this.#o.root }, 'the disk takes what is read again');
    }
    if (this.#isHigh()) this.#plan(Math.max(0, this.#restUntil - performance.now()));
  }

  /** Something could not be written. A full disk counts as a cache that is full, whatever its limit. */
  refused(error: unknown): void {
    const why = errorMessage(error);
    const { log, root } = this.#o;
    if (this.#refusal === undefined)
      log.warn({ root, error: why }, 'the disk takes nothing more: what is read is served without being kept');
    this.#refusal = { why, until: performance.now() + this.#timing.refusedMs };
    const code = errorCode(error);
    if (code !== 'ENOSPC' && code !== 'EDQUOT') return;
    this.#isDiskFull = true;
    this.#plan(Math.max(0, this.#restUntil - performance.now()));
  }

  /** What this machine has too little of, so that only what is waited for is brought; undefined while nothing is missing. */
  shortage(): string | undefined {
    if (this.#isRefusing) return `the disk takes nothing more: ${this.#refusal?.why ?? ''}`;
    return isMemoryShort() ? 'memory is short' : undefined;
  }

  /** Why nothing may be brought that nobody asked for; undefined when it may. What is filled so never makes anything else go. */
  fillAllowed(): string | undefined {
    const { used } = this.#level;
    const shortage = this.shortage();
    if (shortage !== undefined) return shortage;
    if (used === undefined || this.#bounds === undefined) return 'the cache is being measured';
    const { low, limit } = this.#bounds;
    if (used < low) return undefined;
    return `the cache is full: ${humanBytes(used)} of ${humanBytes(limit)}`;
  }

  /** Bytes of blob that filling may have under way: what they become, unpacked, must fit between where filling stops and the limit. */
  fillAhead(): number {
    return this.#bounds === undefined ? 0 : (this.#bounds.limit - this.#bounds.low) / 4;
  }

  /** Bytes of blob that may be here unread, or under way, because somebody might read them: none from where room is made. */
  readAheadRoom(): number {
    if (this.#bounds === undefined || this.#level.used === undefined || this.shortage() !== undefined) return 0;
    return this.#isHigh() ? 0 : (this.#bounds.limit - this.#bounds.low) / 4;
  }

  stats(): KeeperStats {
    return { usedBytes: this.#level.used, limitBytes: this.#bounds?.limit, ...this.#totals };
  }

  /** The settings have changed, or somebody wants to know it now: measures, and makes room where that is needed. Never rejects. */
  async check(): Promise<void> {
    while (this.#checking !== undefined) await this.#checking;
    if (this.#closing.signal.aborted) return;
    this.#measuredAt = -Infinity;
    await this.#run();
  }

  /** Idempotent. Never rejects. */
  async close(): Promise<void> {
    this.#closing.abort();
    clearTimeout(this.#timer);
    await this.#checking;
    this.#lock[Symbol.dispose]();
  }

  /** It may take something again after that, and whoever tries finds out. */
  get #isRefusing(): boolean {
    return this.#refusal !== undefined && performance.now() < this.#refusal.until;
  }

  #isHigh(): boolean {
    const { used } = this.#level;
    return used !== undefined && this.#bounds !== undefined && used >= this.#bounds.high;
  }

  /** Checks in `ms`, and from then on now and then. */
  #plan(ms: number): void {
    if (this.#closing.signal.aborted) return;
    if (this.#checking !== undefined) {
      this.#isCheckWanted = true;
      return;
    }
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#run(), ms);
    this.#timer.unref();
  }

  /** Never rejects. */
  #run(): Promise<void> {
    this.#checking ??= this.#check()
      .catch((error: unknown) => {
        if (this.#closing.signal.aborted) return;
        this.#rest();
        this.#o.log.warn({ error: errorMessage(error) }, 'cannot look after the cache');
      })
      .finally(() => {
        this.#checking = undefined;
        const isUrgent = this.#isCheckWanted && (this.#isHigh() || this.#isDiskFull);
        this.#isCheckWanted = false;
        const rest = Math.max(0, this.#restUntil - performance.now());
        this.#plan(isUrgent ? rest : this.#level.changed ? this.#timing.busyMs : this.#timing.idleMs);
      });
    return this.#checking;
  }

  async #check(): Promise<void> {
    const { space } = this.#o;
    const now = performance.now();
    this.#lookAtMemory();
    this.#level.free(space().freeBytes);
    this.#update();
    const isTooMuch = (this.#isHigh() || this.#isDiskFull) && now >= this.#restUntil;
    // Who makes room measures first; another process that does it needs no help.
    const isMine = isTooMuch && this.#lock.take();
    const isOld = this.#level.changed && now - this.#measuredAt >= this.#timing.measureMs;
    if (isMine || isOld || !this.#isMeasured) await this.#measure();
    if (isTooMuch && !isMine) {
      this.#isDiskFull = false;
      this.#rest();
    }
    if (this.#isHigh() || this.#isDiskFull) {
      if (performance.now() >= this.#restUntil && this.#lock.take()) await this.#makeRoom();
    } else this.#saidStuck = false;
  }

  #lookAtMemory(): void {
    const { log } = this.#o;
    const isShort = isMemoryShort();
    if (isShort === this.#isMemoryShort) return;
    this.#isMemoryShort = isShort;
    if (!isShort) return log.info({}, 'there is memory again');
    log.warn({}, 'memory is short: only what is waited for is brought, and little of it at a time');
    const release = async () => await (await import('./release-memory.ts')).releaseMemory();
    release().catch((error: unknown) => log.debug({ error: errorMessage(error) }, 'memory could not be given back'));
  }

  get #isMeasured(): boolean {
    return this.#measuredAt !== -Infinity;
  }

  async #measure(): Promise<void> {
    const { freeBytes } = this.#o.space();
    const used = await this.#o.stock.usedBytes();
    this.#level.measured(used, freeBytes);
    this.#measuredAt = performance.now();
    this.#update();
  }

  /** What the settings mean now: the limit may be a share of a disk that grew, and others fill the disk, too. */
  #update(): void {
    const { used } = this.#level;
    if (used === undefined) return;
    const { totalBytes, freeBytes } = this.#o.space();
    this.#bounds = cacheBounds(this.#o.settings(), { totalBytes, reachableBytes: used + freeBytes });
  }

  async #makeRoom(): Promise<void> {
    const { stock, log, settings } = this.#o;
    const { used, bounds, isDiskFull } = {
      used: this.#level.used ?? 0,
      bounds: this.#bounds,
      isDiskFull: this.#isDiskFull,
    };
    if (bounds === undefined) return;
    const isUrgent = isDiskFull || used >= bounds.limit;
    const { recentSeconds, leastSeconds } = this.#timing;
    const low = isDiskFull ? Math.min(bounds.low, Math.floor((used * settings().low) / 100)) : bounds.low;
    const made = await makeRoom(stock, {
      bytes: low,
      recentSeconds: isUrgent ? Math.min(recentSeconds, leastSeconds) : recentSeconds,
      isProtected: this.#protected.has,
      signal: this.#closing.signal,
    });
    this.#isDiskFull = false;
    this.#level.measured(made.usedBytes, this.#o.space().freeBytes);
    this.#measuredAt = performance.now();
    this.#update();
    this.#count(made);
    const { usedBytes, removed, evictedSpans, evictedBytes } = made;
    const isStuck = usedBytes > low;
    if (removed.length > 0 || evictedSpans > 0 || usedBytes < used)
      log.info(
        { from: used, to: usedBytes, limit: bounds.limit, removed, evictedSpans, evictedBytes },
        'made room in the cache',
      );
    if (!isStuck) {
      this.#saidStuck = false;
      return;
    }
    this.#rest();
    if (this.#saidStuck || !(this.#isHigh() || isDiskFull)) return;
    this.#saidStuck = true;
    log.warn(
      { used: usedBytes, limit: bounds.limit, high: bounds.high },
      'the cache is over its bounds and the rest cannot go: complete layers that are mounted, and what was read a moment ago (see `peel cache`)',
    );
  }

  #rest(): void {
    this.#restUntil = performance.now() + this.#timing.busyMs;
  }

  #count({ evictedBytes, evictedSpans, removed }: RoomMade): void {
    this.#totals = {
      evictedBytes: this.#totals.evictedBytes + evictedBytes,
      evictedSpans: this.#totals.evictedSpans + evictedSpans,
      removedLayers: this.#totals.removedLayers + removed.length,
    };
  }
}
