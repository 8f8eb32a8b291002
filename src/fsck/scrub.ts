// A slow check of the whole cache behind everything else, which mends what it finds.
import { setTimeout as delay } from 'node:timers/promises';
import { errorMessage } from '../layer/errors.ts';
import type { Digest } from '../oci/digest.ts';
import { guarded } from './check.ts';
import type { FsckDeps } from './check.ts';
import { LayerCheck } from './check-layer.ts';
import type { LayerCheckOptions } from './check-layer.ts';
import type { Finding } from './finding.ts';
import { allLayers } from './fsck.ts';
import { Pace } from './pace.ts';
import { ScrubProgress } from './scrub-progress.ts';

export interface ScrubSettings {
  readonly enabled: boolean;
  /** ms between the end of one pass and the begin of the next. */
  readonly interval: number;
  /** Bytes of disk per second; 0: as fast as it goes. */
  readonly bandwidth: number;
}

export interface ScrubberOptions {
  readonly deps: FsckDeps;
  /** As they are now. */
  readonly settings: () => ScrubSettings;
  /** Whether somebody waits for what the disk or the line is needed for. */
  readonly isBusy: () => boolean;
  /** The process before this one did not end in order: a pass begins now, and from the start. */
  readonly isUnclean: boolean;
  readonly timing?: Partial<ScrubTiming> | undefined;
}

export interface ScrubTiming {
  /** ms after the start in which nothing is checked; after an unclean stop, when much may have to be found. */
  readonly restMs: number;
  readonly uncleanRestMs: number;
  /** ms between two looks at whether somebody is busy, or the settings are others. */
  readonly pollMs: number;
  /** ms after which what could not be mended is tried again, and a pass that could not be made. */
  readonly againMs: number;
}

export interface ScrubStats {
  /** Since this process began. */
  readonly checkedBytes: number;
  readonly repaired: number;
  /** Of the last check of each layer: what is wrong and could not be mended. */
  readonly left: readonly Finding[];
  /** ms since the epoch. */
  readonly finishedAt: number | undefined;
  readonly isRunning: boolean;
}

const usualTiming: ScrubTiming = { restMs: 60_000, uncleanRestMs: 5_000, pollMs: 1_000, againMs: 3_600_000 };
/** Times in a row; then a pass finds it again. */
const mostAgain = 24;
/** No layer is called so, and all come after. */
const beforeAll = '';

export class Scrubber {
  readonly #o: ScrubberOptions;
  readonly #timing: ScrubTiming;
  readonly #progress: ScrubProgress;
  readonly #closing = new AbortController();
  readonly #left = new Map<Digest, readonly Finding[]>();
  #running: Promise<void> | undefined;
  #checkedBytes = 0;
  #repaired = 0;
  #finishedAt: number | undefined;
  /** Of the pass that is not over: layers up to this one are checked. */
  #upTo: string | undefined;
  #isPassing = false;
  /** When what is left was tried last, ms of `performance.now()`, and how often since the last pass. */
  #triedAt = 0;
  #again = 0;

  constructor(options: ScrubberOptions) {
    this.#o = options;
    this.#timing = { ...usualTiming, ...options.timing };
    this.#progress = new ScrubProgress(options.deps.root);
  }

  /** Keeps no process alive. */
  start(): void {
    this.#running ??= this.#run().catch((error: unknown) => {
      if (!this.#closing.signal.aborted)
        this.#o.deps.log.warn({ error: errorMessage(error) }, 'the background check of the cache has ended');
    });
  }

  stats(): ScrubStats {
    return {
      checkedBytes: this.#checkedBytes,
      repaired: this.#repaired,
      left: [...this.#left.values()].flat(),
      finishedAt: this.#finishedAt,
      isRunning: this.#isPassing,
    };
  }

  /** What is being checked is left half way. Idempotent. Never rejects. */
  async close(): Promise<void> {
    this.#closing.abort(new DOMException('the background check is closed', 'AbortError'));
    await this.#running;
  }

  async #run(): Promise<void> {
    const { isUnclean } = this.#o;
    const { restMs, uncleanRestMs, pollMs, againMs } = this.#timing;
    const known = await this.#progress.read();
    this.#finishedAt = known.finishedAt;
    this.#upTo = isUnclean ? beforeAll : known.upTo;
    // The next process does not know of it when this one ends in order before it has begun.
    if (isUnclean) await this.#keep();
    await this.#sleep(isUnclean ? uncleanRestMs : restMs);
    for (;;) {
      const { enabled, interval } = this.#o.settings();
      if (enabled && this.#isDue(interval)) {
        if (!(await this.#tryPass())) await this.#sleep(Math.min(interval, againMs));
      } else if (
        enabled &&
        this.#left.size > 0 &&
        performance.now() - this.#triedAt >= againMs &&
        this.#again < mostAgain
      ) {
        this.#again += 1;
        await this.#checkAgain();
      } else await this.#sleep(Math.min(60_000, Math.max(Math.min(interval, againMs) / 10, pollMs)));
    }
  }

  /** Also where the clock was wrong when the last one was over. */
  #isDue(interval: number): boolean {
    const finishedAt = this.#finishedAt;
    if (this.#upTo !== undefined || finishedAt === undefined) return true;
    const now = Date.now();
    return now - finishedAt >= interval || now < finishedAt;
  }

  /** False when it could not be made: the next one goes on there. */
  async #tryPass(): Promise<boolean> {
    this.#isPassing = true;
    try {
      await this.#pass();
      return true;
    } catch (error) {
      this.#closing.signal.throwIfAborted();
      this.#o.deps.log.warn({ error: errorMessage(error) }, 'the cache cannot be checked now');
      return false;
    } finally {
      this.#isPassing = false;
    }
  }

  async #pass(): Promise<void> {
    const before = this.#checkedBytes;
    const layers = await allLayers(this.#o.deps);
    for (const layer of this.#left.keys()) if (!layers.includes(layer)) this.#left.delete(layer);
    const upTo = this.#upTo ?? beforeAll;
    for (const layer of layers) {
      if (layer <= upTo) continue;
      await this.#check(layer);
      this.#upTo = layer;
      await this.#keep();
    }
    this.#upTo = undefined;
    this.#finishedAt = Date.now();
    this.#again = 0;
    this.#triedAt = performance.now();
    await this.#keep();
    this.#o.deps.log.info(
      { bytes: this.#checkedBytes - before, left: this.stats().left.length },
      'the whole cache was checked',
    );
  }

  /** What could not be mended: the registry may be there again, or nobody use the layer any more. */
  async #checkAgain(): Promise<void> {
    for (const layer of this.#left.keys()) await this.#check(layer);
    this.#triedAt = performance.now();
  }

  async #keep(): Promise<void> {
    try {
      await this.#progress.write({ upTo: this.#upTo, finishedAt: this.#finishedAt });
    } catch (error) {
      // On a full disk: a process that ends checks again what this one has checked.
      this.#o.deps.log.debug({ error: errorMessage(error) }, 'how far the cache is checked cannot be kept');
    }
  }

  async #check(layer: Digest): Promise<void> {
    const { deps } = this.#o;
    const { signal } = this.#closing;
    const left: Finding[] = [];
    const found = (finding: Finding) => {
      const { what, how, repaired } = finding;
      deps.log.warn({ layer, what, how }, repaired ? 'the cache was wrong and is repaired' : 'the cache is wrong');
      if (repaired) this.#repaired += 1;
      else left.push(finding);
    };
    const pace = new Pace(this.#o.settings().bandwidth);
    const options: LayerCheckOptions = {
      repair: true,
      whole: false,
      signal,
      found,
      pace: async (bytes) => {
        while (this.#o.isBusy() || !this.#o.settings().enabled) await this.#sleep(this.#timing.pollMs);
        await pace.take(bytes, signal);
        this.#checkedBytes += bytes;
      },
    };
    await guarded(options, { place: 'layer', subject: layer }, () => LayerCheck.run(deps, layer, options));
    if (left.length > 0) this.#left.set(layer, left);
    else this.#left.delete(layer);
  }

  async #sleep(ms: number): Promise<void> {
    await delay(ms, undefined, { signal: this.#closing.signal, ref: false });
  }
}
