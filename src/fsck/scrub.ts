// A slow check of the whole cache behind everything else, which mends what it finds.
import { setTimeout as delay } from 'node:timers/promises';
import { errorMessage } from '../layer/errors.ts';
import type { Digest } from '../oci/digest.ts';
import type { FsckDeps } from './check.ts';
import { LayerCheck } from './check-layer.ts';
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

const usualTiming: ScrubTiming = { restMs: 60_000, uncleanRestMs: 5_000, pollMs: 1_000 };

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
  #isPassing = false;

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
    const known = await this.#progress.read();
    this.#finishedAt = known.finishedAt;
    let upTo = isUnclean ? undefined : known.upTo;
    let isDue = isUnclean || upTo !== undefined;
    await this.#sleep(isUnclean ? this.#timing.uncleanRestMs : this.#timing.restMs);
    for (;;) {
      const { enabled, interval } = this.#o.settings();
      isDue ||= this.#finishedAt === undefined || Date.now() - this.#finishedAt >= interval;
      if (enabled && isDue) {
        await this.#pass(upTo);
        [isDue, upTo] = [false, undefined];
      } else await this.#sleep(Math.min(60_000, Math.max(interval / 10, this.#timing.pollMs)));
    }
  }

  async #pass(upTo: string | undefined): Promise<void> {
    const { log } = this.#o.deps;
    this.#isPassing = true;
    try {
      const before = this.#checkedBytes;
      for (const layer of await allLayers(this.#o.deps)) {
        if (upTo !== undefined && layer <= upTo) continue;
        await this.#check(layer);
        await this.#progress.checked(layer, this.#finishedAt);
      }
      this.#finishedAt = Date.now();
      await this.#progress.finished(this.#finishedAt);
      log.info({ bytes: this.#checkedBytes - before, left: this.stats().left.length }, 'the whole cache was checked');
    } finally {
      this.#isPassing = false;
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
    try {
      await LayerCheck.run(deps, layer, {
        repair: true,
        whole: false,
        signal,
        found,
        pace: async (bytes) => {
          while (this.#o.isBusy() || !this.#o.settings().enabled) await this.#sleep(this.#timing.pollMs);
          await pace.take(bytes, signal);
          this.#checkedBytes += bytes;
        },
      });
    } catch (error) {
      signal.throwIfAborted();
      // One layer that cannot be read must not keep the others from being checked.
      const what = `cannot be checked: ${errorMessage(error)}`;
      found({ place: 'layer', subject: layer, what, repaired: false, how: undefined });
    }
    if (left.length > 0) this.#left.set(layer, left);
    else this.#left.delete(layer);
  }

  async #sleep(ms: number): Promise<void> {
    await delay(ms, undefined, { signal: this.#closing.signal, ref: false });
  }
}
