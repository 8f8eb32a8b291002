// Everything the daemon counts, in Prometheus' text format. Labels are closed sets: nothing from outside ever becomes one.
import type { Counter, Gauge, Histogram, Registry } from 'prom-client';
import { LayerMetrics } from './layer-metrics.ts';

/** How a layer snapshot was answered: served, unpacked, found, or why it was left to containerd. */
export const prepareCodes = [
  'served',
  'unpacked',
  'found',
  'mode',
  'formats',
  'labels',
  'no_index',
  'layer',
  'timeout',
  'registry',
  'disk',
  'error',
] as const;
export type PrepareCode = (typeof prepareCodes)[number];

export const layerServings = ['lazy', 'complete', 'unpacked', 'deferred'] as const;
export const unpackJobStates = ['in_progress', 'done', 'claimed', 'failed', 'cancelled', 'expired'] as const;
export const leaseKinds = ['downloads', 'unpacks'] as const;
export const snapshotKinds = ['view', 'active', 'committed'] as const;

/** What is counted by looking, at every scrape. */
export interface Gauges {
  readonly snapshots: Readonly<Partial<Record<(typeof snapshotKinds)[number], number>>>;
  readonly layers: Readonly<Partial<Record<(typeof layerServings)[number], number>>>;
  /** Of the layers that this process has open. */
  readonly presentBytes: number;
  /** Mounts of people, by whether they could be made. */
  readonly mounts: { readonly serving: number; readonly failed: number };
  /** Over the whole life of the process. */
  readonly fuseErrors: number;
  /** Leases of the unpacker, and its jobs. */
  readonly leases: Readonly<Partial<Record<(typeof leaseKinds)[number], LeaseGauge>>>;
  readonly unpackJobs: Readonly<Partial<Record<(typeof unpackJobStates)[number], number>>>;
}

export interface LeaseGauge {
  readonly held: number;
  readonly waiting: number;
}

const seconds = [0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

export class DaemonMetrics {
  /** Of fetching layers and of the cache. */
  readonly layers: LayerMetrics;
  readonly #registry: Registry;
  readonly #prepares: Counter<'code'>;
  readonly #prepareSeconds: Histogram<'code'>;
  readonly #misses: Counter;
  readonly #fetched: Counter;
  #look: (() => Gauges) | undefined;
  /** What was seen for the scrape under way. */
  #found: Gauges | undefined;

  private constructor(prom: typeof import('prom-client')) {
    this.#registry = new prom.Registry();
    const registers = [this.#registry];
    const name = (suffix: string, help: string) => ({ name: `peel_${suffix}`, help, registers });
    this.#prepares = new prom.Counter({
      ...name(
        'snapshot_prepares_total',
        'Layer snapshots that containerd asked for: served, unpacked, or why they were left to it.',
      ),
      labelNames: ['code'],
    });
    this.#prepareSeconds = new prom.Histogram({
      ...name('snapshot_prepare_duration_seconds', 'From the request for a layer snapshot to its answer.'),
      labelNames: ['code'],
      buckets: seconds,
    });
    this.#misses = new prom.Counter(
      name('read_miss_spans_total', 'Spans that a reader wanted and that were not here.'),
    );
    this.#fetched = new prom.Counter(name('fetched_bytes_total', 'Bytes of bodies that registries sent.'));
    for (const code of prepareCodes) this.#prepares.inc({ code }, 0);
    this.#addGauges(prom, name);
    this.layers = new LayerMetrics(prom, name);
    prom.collectDefaultMetrics({ register: this.#registry });
  }

  /** The library is loaded here: only the daemon needs it. */
  static async create(): Promise<DaemonMetrics> {
    return new DaemonMetrics(await import('prom-client'));
  }

  prepared(code: PrepareCode, durationMs: number): void {
    this.#prepares.inc({ code });
    this.#prepareSeconds.observe({ code }, durationMs / 1000);
  }

  readonly missed = (spans: number): void => this.#misses.inc(spans);

  readonly fetched = (bytes: number): void => this.#fetched.inc(bytes);

  /** `look` is called once at every scrape. */
  observe(look: () => Gauges): void {
    this.#look = look;
  }

  async text(): Promise<string> {
    this.#found = this.#look?.();
    this.layers.refresh();
    return await this.#registry.metrics();
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  #addGauges(prom: typeof import('prom-client'), name: (suffix: string, help: string) => MetricName): void {
    const gauge = (base: MetricName, fill: (gauge: Gauge, found: Gauges) => void, labels: readonly string[] = []) => {
      const look = () => this.#found;
      return new prom.Gauge({
        ...base,
        labelNames: labels,
        collect() {
          const found = look();
          if (found !== undefined) fill(this, found);
        },
      });
    };
    gauge(
      name('snapshots', 'Snapshots that containerd knows.'),
      (self, { snapshots }) => snapshotKinds.forEach((kind) => self.set({ kind }, snapshots[kind] ?? 0)),
      ['kind'],
    );
    gauge(
      name('layers', 'Layers of snapshots by how they are served.'),
      (self, { layers }) => layerServings.forEach((serving) => self.set({ serving }, layers[serving] ?? 0)),
      ['serving'],
    );
    gauge(
      name('cache_present_bytes', 'Bytes of layer streams in the block cache, of the layers in use.'),
      (self, found) => self.set(found.presentBytes),
    );
    gauge(
      name('mounts', 'Mounts of people that the daemon serves, or could not make again.'),
      (self, { mounts }) => {
        self.set({ state: 'serving' }, mounts.serving);
        self.set({ state: 'failed' }, mounts.failed);
      },
      ['state'],
    );
    gauge(
      name('unpack_leases', 'Leases to download chunks of layers and to unpack layers that are held, or waited for.'),
      (self, { leases }) => {
        for (const kind of leaseKinds) {
          self.set({ kind, state: 'held' }, leases[kind]?.held ?? 0);
          self.set({ kind, state: 'waiting' }, leases[kind]?.waiting ?? 0);
        }
      },
      ['kind', 'state'],
    );
    gauge(
      name('unpack_jobs', 'Jobs of the unpacker, which are one for each layer and form, by their state.'),
      (self, { unpackJobs }) => unpackJobStates.forEach((state) => self.set({ state }, unpackJobs[state] ?? 0)),
      ['state'],
    );
    let told = 0;
    const errors = new prom.Counter({
      ...name('fuse_errors_total', 'Requests of the kernel that were answered with an error of ours.'),
      collect: () => {
        const now = this.#found?.fuseErrors ?? told;
        if (now > told) errors.inc(now - told);
        told = Math.max(told, now);
      },
    });
  }
}

interface MetricName {
  readonly name: string;
  readonly help: string;
  readonly registers: Registry[];
}
