// Keeps what the starts of images read, waited for and fetched, for `peel why` and for profiles.
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorMessage } from '../layer/errors.ts';
import type { Logger } from '../observe/log.ts';
import type { Digest } from '../oci/digest.ts';
import type { StartRow, StartTable } from '../state/starts.ts';
import type { WatchedLayer } from './layer-trace.ts';
import { StartObservation } from './start-observation.ts';

/** All ms. */
export interface StartTimes {
  /** A start lasts at least this long from its first read: programs sleep, and wait for others, while they start. */
  readonly least: number;
  /** After that it is over once nothing new was read for so long. */
  readonly quiet: number;
  /** It is never longer: what reads new files all the time does not start any more, it works. */
  readonly most: number;
  /** From one look, and one writing of what is new, to the next. */
  readonly step: number;
}

export const startTimes: StartTimes = { least: 60_000, quiet: 20_000, most: 300_000, step: 2_000 };

/** Writes of the last state that another process was in the way of, 50 ms apart. */
const lastTries = 10;

export interface NewStart {
  /** In full. */
  readonly reference: string;
  /** Manifest digest. */
  readonly image: Digest;
  /** Where it is mounted; undefined: a snapshot of containerd. */
  readonly dir?: string | undefined;
  /** Lowest first. */
  readonly layers: readonly { readonly layer: WatchedLayer }[];
}

export interface EndedStart {
  readonly reference: string;
  readonly image: Digest;
  readonly dir: string | undefined;
  readonly layers: readonly StartedLayer[];
}

export interface StartedLayer {
  readonly layer: WatchedLayer;
  /** Spans in the order they were first read. */
  readonly order: readonly number[];
  /**
   * Nobody here had read the layer before, so that the order is that of the whole start: spans that were read by an earlier start of this process
   * are not told of again.
   */
  readonly whole: boolean;
}

export interface StartRecorderOptions {
  readonly starts: Pick<StartTable, 'tryPut'>;
  readonly log: Logger;
  /** Called once for each start in which anything was read. */
  readonly onEnd?: ((start: EndedStart) => Promise<void> | void) | undefined;
  readonly times?: StartTimes | undefined;
}

export interface RecordedStart {
  readonly id: string;
  /** Ends it now: its mount is going. Resolves when it is written. Idempotent, never rejects. */
  end(): Promise<void>;
}

export class StartRecorder {
  readonly #o: StartRecorderOptions;
  readonly #running = new Set<Recording>();
  readonly #seen = new WeakSet<WatchedLayer>();

  constructor(options: StartRecorderOptions) {
    this.#o = options;
  }

  /** How many starts are watched now. */
  get running(): number {
    return this.#running.size;
  }

  /**
   * Watches the layers until the start is over; the clock of that runs from the first read on. A container's start that reads nothing new within
   * the longest time is none.
   */
  begin(start: NewStart): RecordedStart {
    const fresh = new Set<WatchedLayer>();
    for (const { layer } of start.layers) {
      if (!this.#seen.has(layer)) fresh.add(layer);
    }
    for (const layer of fresh) this.#seen.add(layer);
    const recording = new Recording(this.#o, start, fresh, () => this.#running.delete(recording));
    this.#running.add(recording);
    return recording;
  }

  /** Ends all starts. Never rejects. */
  async close(): Promise<void> {
    await Promise.all([...this.#running].map((recording) => recording.end()));
  }
}

class Recording implements RecordedStart {
  readonly id = randomUUID();
  readonly #o: StartRecorderOptions;
  readonly #times: StartTimes;
  readonly #start: NewStart;
  readonly #fresh: ReadonlySet<WatchedLayer>;
  readonly #onOver: () => void;
  readonly #startedAt = Date.now();
  readonly #observation: StartObservation;
  readonly #timer: NodeJS.Timeout;
  #written = 0;
  #ended: Promise<void> | undefined;

  constructor(options: StartRecorderOptions, start: NewStart, fresh: ReadonlySet<WatchedLayer>, onOver: () => void) {
    this.#o = options;
    this.#times = options.times ?? startTimes;
    this.#start = start;
    this.#fresh = fresh;
    this.#onOver = onOver;
    this.#observation = new StartObservation(
      start.layers.map(({ layer }) => layer),
      performance.now(),
    );
    this.#timer = setInterval(() => this.#look(), this.#times.step);
    // Whoever serves the layers keeps the process.
    this.#timer.unref();
  }

  end(): Promise<void> {
    this.#ended ??= this.#end();
    return this.#ended;
  }

  #look(): void {
    if (this.#isOver(performance.now())) {
      void this.end();
    } else if (this.#observation.firstRead !== undefined && this.#observation.changes > this.#written) {
      this.#write({ over: false });
    }
  }

  #isOver(now: number): boolean {
    const { base, firstRead, lastRead } = this.#observation;
    const { least, quiet, most } = this.#times;
    // A mount is unmounted some day; of a container nobody says when it ends, and one that reads nothing new would be watched for ever.
    if (firstRead === undefined || lastRead === undefined) return this.#start.dir === undefined && now - base >= most;
    const lasted = now - firstRead;
    return lasted >= most || (lasted >= least && now - lastRead >= quiet);
  }

  async #end(): Promise<void> {
    clearInterval(this.#timer);
    this.#observation.stop();
    try {
      // One that read nothing tells nothing, and would take the place of one that did.
      if (this.#observation.firstRead === undefined) return;
      await this.#tellEnd();
      for (let tries = 1; !this.#write({ over: true }); tries += 1) {
        if (tries >= lastTries) break;
        await sleep(50);
      }
    } finally {
      this.#onOver();
    }
  }

  async #tellEnd(): Promise<void> {
    const { reference, image, dir } = this.#start;
    const layers = this.#observation.layers.map(({ layer, order }) => ({
      layer,
      order,
      whole: this.#fresh.has(layer),
    }));
    try {
      await this.#o.onEnd?.({ reference, image, dir, layers });
    } catch (error) {
      this.#o.log.warn({ reference, error: errorMessage(error) }, 'what a start read was not kept as a profile');
    }
  }

  /** False when it is to be tried again. */
  #write({ over }: { readonly over: boolean }): boolean {
    const { reference, image, dir } = this.#start;
    const { changes } = this.#observation;
    try {
      const trace = this.#observation.trace(performance.now(), { over });
      const row: StartRow = {
        id: this.id,
        reference,
        image,
        dir,
        startedAt: this.#startedAt,
        trace: JSON.stringify(trace),
      };
      if (!this.#o.starts.tryPut(row)) return false;
    } catch (error) {
      // A database that cannot be written must not end the mount.
      this.#o.log.warn({ reference, error: errorMessage(error) }, 'what a start waited for cannot be written down');
    }
    this.#written = changes;
    return true;
  }
}
