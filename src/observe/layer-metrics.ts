// What is counted of fetching layers, in Prometheus' text format. Labels are closed sets.
import type { Counter, Histogram, Registry } from 'prom-client';

/** Why spans are fetched: the names of layer/fetch-class.ts. */
export const fetchReasons = ['demand', 'read-ahead', 'profile', 'background'] as const;
export type FetchReason = (typeof fetchReasons)[number];

/** What is looked at, at every scrape; what nobody knows is left out. Those named total only grow, over the whole life of the process. */
export interface LayerGauges {
  /** Bytes of blob that read-ahead fetched, and the part of them that was read. */
  readonly readAhead?: { readonly fetchedBytesTotal: number; readonly usedBytesTotal: number } | undefined;
  /** Layers that are being filled in the background, or wait for that. */
  readonly fillLayers?: number | undefined;
  readonly evictedBytesTotal?: number | undefined;
  /** On disk, and what it may be. */
  readonly cache?: { readonly bytes: number; readonly limitBytes: number } | undefined;
  /** Of the background check of the cache: what it has read, what it mended, and what is wrong and left. */
  readonly scrub?:
    | { readonly checkedBytes: number; readonly repaired: number; readonly left: readonly unknown[] }
    | undefined;
  /** Of each registry: no host becomes a label, only the least and the most of all are shown. Bytes per second, and ms to the first byte. */
  readonly links?: readonly { readonly bandwidth: number; readonly delayMs: number }[] | undefined;
  /** Registries and mirrors that were asked for something. */
  readonly endpoints?: readonly { readonly state: EndpointState }[] | undefined;
}

/** The states of registry/client/circuit-breaker.ts. */
const endpointStates = ['answering', 'away', 'probing'] as const;
type EndpointState = (typeof endpointStates)[number];

/** What a layer tells of its spans and reads; fits layer/layer-activity.ts. */
export interface CountedActivity {
  readonly fetched: (fetch: {
    readonly fetchClass: FetchReason;
    readonly bytes: number;
    readonly retries: number;
  }) => void;
  readonly stalled: (
    stalls: readonly { readonly startedAt: number; readonly endedAt: number; readonly error: string | undefined }[],
  ) => void;
}

type Named = (suffix: string, help: string) => { name: string; help: string; registers: Registry[] };

/** From a read of a nearby registry to the read deadline. */
const waitSeconds = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

export class LayerMetrics {
  /** To be given to the activity of every layer that is served, once. */
  readonly activity: CountedActivity;
  readonly #bytes: Counter<'class'>;
  readonly #spans: Counter<'class'>;
  readonly #retries: Counter;
  readonly #waits: Histogram<'outcome'>;
  #look: (() => LayerGauges) | undefined;
  #found: LayerGauges = {};

  /** `named`: makes the beginning of a metric's description. */
  constructor(prom: typeof import('prom-client'), named: Named) {
    this.#bytes = new prom.Counter({
      ...named(
        'layer_fetched_bytes_total',
        'Bytes of layer blobs that were fetched, by why they were asked for first.',
      ),
      labelNames: ['class'],
    });
    this.#spans = new prom.Counter({
      ...named('layer_fetched_spans_total', 'Spans that were fetched, by why they were asked for first.'),
      labelNames: ['class'],
    });
    this.#retries = new prom.Counter(
      named('layer_fetch_retries_total', 'Requests that failed before a span was fetched, once for each span.'),
    );
    this.#waits = new prom.Histogram({
      ...named('read_stall_duration_seconds', 'Reads that had to wait for bytes to come, by what became of them.'),
      labelNames: ['outcome'],
      buckets: waitSeconds,
    });
    for (const reason of fetchReasons) {
      this.#bytes.inc({ class: reason }, 0);
      this.#spans.inc({ class: reason }, 0);
    }
    for (const outcome of ['read', 'failed']) this.#waits.zero({ outcome });
    this.activity = {
      fetched: ({ fetchClass, bytes, retries }) => {
        this.#bytes.inc({ class: fetchClass }, bytes);
        this.#spans.inc({ class: fetchClass });
        if (retries > 0) this.#retries.inc(retries);
      },
      stalled: (stalls) => {
        for (const { startedAt, endedAt, error } of stalls) {
          const outcome = error === undefined ? 'read' : 'failed';
          this.#waits.observe({ outcome }, Math.max(0, endedAt - startedAt) / 1000);
        }
      },
    };
    this.#addGauges(prom, named);
    this.#addTotals(prom, named);
  }

  /** `look` is called once at every scrape. */
  observe(look: () => LayerGauges): void {
    this.#look = look;
  }

  /** Before every scrape. */
  refresh(): void {
    this.#found = this.#look?.() ?? {};
  }

  #addGauges(prom: typeof import('prom-client'), named: Named): void {
    type Values = readonly (readonly [labels: Readonly<Record<string, string>>, value: number])[];
    const gauge = (
      suffix: string,
      help: string,
      labelNames: readonly string[],
      values: (found: LayerGauges) => Values,
    ) => {
      const look = () => this.#found;
      return new prom.Gauge({
        ...named(suffix, help),
        labelNames,
        collect() {
          // What is not known any more must not be shown as it was.
          this.reset();
          if (labelNames.length === 0) this.remove();
          for (const [labels, value] of values(look())) this.set(labels, value);
        },
      });
    };
    const one = (value: number | undefined): Values => (value === undefined ? [] : [[{}, value]]);
    const ends = (values: readonly number[] | undefined): Values =>
      values === undefined || values.length === 0
        ? []
        : [
            [{ end: 'least' }, Math.min(...values)],
            [{ end: 'most' }, Math.max(...values)],
          ];
    gauge('fill_layers', 'Layers that are being filled in the background, or wait for that.', [], (found) =>
      one(found.fillLayers),
    );
    gauge('cache_bytes', 'Bytes on disk that the cache takes.', [], ({ cache }) => one(cache?.bytes));
    gauge('cache_limit_bytes', 'Bytes on disk that the cache may take.', [], ({ cache }) => one(cache?.limitBytes));
    gauge('scrub_left', 'What the background check of the cache found wrong and could not mend.', [], ({ scrub }) =>
      one(scrub?.left.length),
    );
    gauge(
      'link_bandwidth_bytes_per_second',
      'What the slowest and the fastest registry in use was seen to deliver.',
      ['end'],
      ({ links }) => ends(links?.map(({ bandwidth }) => bandwidth)),
    );
    gauge(
      'link_delay_seconds',
      'Time to the first byte of an answer, of the nearest and the farthest registry in use.',
      ['end'],
      ({ links }) => ends(links?.map(({ delayMs }) => delayMs / 1000)),
    );
    gauge(
      'registry_endpoints',
      'Registries and mirrors that were asked for something, by whether they are asked now or left alone after failures.',
      ['state'],
      ({ endpoints }) =>
        endpoints === undefined
          ? []
          : endpointStates.map((state) => [{ state }, endpoints.filter((each) => each.state === state).length]),
    );
  }

  #addTotals(prom: typeof import('prom-client'), named: Named): void {
    const total = (suffix: string, help: string, pick: (found: LayerGauges) => number | undefined) => {
      let told = 0;
      const counter = new prom.Counter({
        ...named(suffix, help),
        collect: () => {
          const now = pick(this.#found) ?? told;
          if (now > told) counter.inc(now - told);
          told = Math.max(told, now);
        },
      });
    };
    total(
      'read_ahead_fetched_bytes_total',
      'Bytes of layer blobs that were fetched because of what was read before them.',
      ({ readAhead }) => readAhead?.fetchedBytesTotal,
    );
    total(
      'read_ahead_used_bytes_total',
      'The part of what read-ahead fetched that was read later.',
      ({ readAhead }) => readAhead?.usedBytesTotal,
    );
    total(
      'scrub_checked_bytes_total',
      'Bytes of the cache that were compared with their checksums in the background.',
      ({ scrub }) => scrub?.checkedBytes,
    );
    total(
      'scrub_repaired_total',
      'What the background check of the cache found wrong and mended.',
      ({ scrub }) => scrub?.repaired,
    );
    total(
      'cache_evicted_bytes_total',
      'Bytes of layers that made room for others.',
      ({ evictedBytesTotal }) => evictedBytesTotal,
    );
  }
}
