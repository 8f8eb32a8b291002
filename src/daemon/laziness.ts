// What goes on behind everything that one process serves lazily, put together.
import { parseDayHours } from '../config/limits.ts';
import type { DaemonConfig } from '../config/schema.ts';
import type { CacheKeeper } from '../image/cache-keeper.ts';
import { LazyLayers } from '../image/lazy-layers.ts';
import type { LazyService } from '../image/serve-lazily.ts';
import { StartRecorder } from '../image/start-recorder.ts';
import type { EndedStart } from '../image/start-recorder.ts';
import { FillPolicy } from '../layer/fill-policy.ts';
import type { LayerListener } from '../layer/layer-activity.ts';
import type { Logger } from '../observe/log.ts';
import type { State } from '../state/state.ts';
import { recordedLayers } from '../image/counted-layers.ts';

export type LazyConfig = Pick<DaemonConfig, 'read_ahead' | 'fill' | 'profile'>;

/** What the schema says, for processes that read no configuration. */
export const defaultLazyConfig: LazyConfig = {
  read_ahead: { enabled: true, budget: 64 << 20 },
  fill: { enabled: true, bandwidth: 0 },
  profile: { record: true, use: true },
};

export interface LazinessOptions {
  /** As it is now: it may change. */
  readonly config: () => LazyConfig;
  readonly state: Pick<State, 'starts' | 'profiles'>;
  readonly log: Logger;
}

export class Laziness implements LazyService {
  readonly lazy: LazyLayers;
  readonly recorder: StartRecorder;
  readonly policy: FillPolicy;
  readonly #o: LazinessOptions;

  constructor(options: LazinessOptions) {
    this.#o = options;
    const { config, state, log } = options;
    this.policy = new FillPolicy({ limits: fillLimits(config()) });
    this.lazy = new LazyLayers({
      settings: () => ({ readAhead: config().read_ahead, fill: config().fill.enabled }),
      policy: this.policy,
      log,
    });
    this.recorder = new StartRecorder({ starts: state.starts, log, onEnd: (start) => this.#keepProfile(start) });
  }

  readonly profiles = (): boolean => this.#o.config().profile.use;

  /** From now on the fill ends where the cache is full. */
  keptBy(keeper: CacheKeeper): void {
    this.lazy.keptBy(keeper);
    this.policy.setAllowed(
      () => keeper.fillAllowed(),
      () => keeper.fillAhead(),
    );
  }

  /** Told of what happens to every layer that is served from now on. */
  countedBy(listener: LayerListener): void {
    this.lazy.watchedBy(({ activity }) => activity.observe(listener));
  }

  /** The configuration is another one; read-ahead that goes on keeps its budget. */
  reload(): void {
    this.lazy.reload();
    this.policy.configure(fillLimits(this.#o.config()));
  }

  /** Never rejects. */
  async close(): Promise<void> {
    await this.recorder.close();
  }

  async #keepProfile({ image, layers }: EndedStart): Promise<void> {
    const { config, state } = this.#o;
    if (!config().profile.record) return;
    const recorded = recordedLayers(layers);
    if (recorded.length > 0) await state.profiles.mergeSoon(image, recorded);
  }
}

function fillLimits({ fill }: LazyConfig): {
  readonly bandwidth: number;
  readonly hours: ReturnType<typeof parseDayHours>;
} {
  return { bandwidth: fill.bandwidth, hours: fill.hours === undefined ? undefined : parseDayHours(fill.hours) };
}
