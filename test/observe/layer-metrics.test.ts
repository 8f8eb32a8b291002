import { expect, it } from 'vitest';
import { fetchClasses } from '../../src/layer/fetch-class.ts';
import { LayerActivity } from '../../src/layer/layer-activity.ts';
import { fetchReasons } from '../../src/observe/layer-metrics.ts';
import type { LayerGauges } from '../../src/observe/layer-metrics.ts';
import { DaemonMetrics } from '../../src/observe/metrics.ts';

/** The lines of the metrics of layers, without comments and without buckets. */
async function linesOf(metrics: DaemonMetrics): Promise<string[]> {
  const ours = /^peel_(layer_|read_stall|fill|cache_(bytes|limit|evicted)|link|registry_endpoints|read_ahead)/;
  return (await metrics.text()).split('\n').filter((line) => ours.test(line) && !line.includes('_bucket'));
}

const atFirst = [
  ...fetchReasons.map((name) => `peel_layer_fetched_bytes_total{class="${name}"} 0`),
  ...fetchReasons.map((name) => `peel_layer_fetched_spans_total{class="${name}"} 0`),
  'peel_layer_fetch_retries_total 0',
  'peel_read_stall_duration_seconds_sum{outcome="read"} 0',
  'peel_read_stall_duration_seconds_count{outcome="read"} 0',
  'peel_read_stall_duration_seconds_sum{outcome="failed"} 0',
  'peel_read_stall_duration_seconds_count{outcome="failed"} 0',
  'peel_read_ahead_fetched_bytes_total 0',
  'peel_read_ahead_used_bytes_total 0',
  'peel_cache_evicted_bytes_total 0',
];

it('shows every series from the start, and nothing that nobody knows', async () => {
  expect(await linesOf(await DaemonMetrics.create())).toEqual(atFirst);
  expect(fetchReasons).toEqual(fetchClasses);
});

it('counts what layers tell', async () => {
  const metrics = await DaemonMetrics.create();
  const activity = new LayerActivity();
  activity.observe(metrics.layers.activity);
  const fetch = { span: 1, bytes: 100, askedAt: 0, sentAt: 0, landedAt: 1, retries: 0, source: 'somewhere' };
  activity.fetched({ ...fetch, fetchClass: 'demand' });
  activity.fetched({ ...fetch, fetchClass: 'background', retries: 2 });
  activity.fetched({ ...fetch, fetchClass: 'background', bytes: 50 });
  const stall = { offset: 0, length: 1, startedAt: 1000, endedAt: 1250, error: undefined };
  activity.stalled([stall, { ...stall, endedAt: 2000, error: 'EIO' }]);
  const text = (await metrics.text()).split('\n');
  for (const line of [
    'peel_layer_fetched_bytes_total{class="demand"} 100',
    'peel_layer_fetched_bytes_total{class="background"} 150',
    'peel_layer_fetched_spans_total{class="background"} 2',
    'peel_layer_fetched_spans_total{class="profile"} 0',
    'peel_layer_fetch_retries_total 2',
    'peel_read_stall_duration_seconds_sum{outcome="read"} 0.25',
    'peel_read_stall_duration_seconds_bucket{le="0.1",outcome="read"} 0',
    'peel_read_stall_duration_seconds_bucket{le="0.25",outcome="read"} 1',
    'peel_read_stall_duration_seconds_sum{outcome="failed"} 1',
  ])
    expect(text).toContain(line);
});

it('looks at the rest at every scrape', async () => {
  const metrics = await DaemonMetrics.create();
  let found: LayerGauges = {
    readAhead: { fetchedBytesTotal: 100, usedBytesTotal: 60 },
    fillLayers: 3,
    evictedBytesTotal: 7,
    cache: { bytes: 10, limitBytes: 20 },
    links: [
      { bandwidth: 500, delayMs: 20 },
      { bandwidth: 900, delayMs: 5 },
      { bandwidth: 700, delayMs: 80 },
    ],
    endpoints: [{ state: 'answering' }, { state: 'away' }, { state: 'answering' }],
  };
  metrics.layers.observe(() => found);
  const gauges = [
    'peel_fill_layers 3',
    'peel_cache_bytes 10',
    'peel_cache_limit_bytes 20',
    'peel_link_bandwidth_bytes_per_second{end="least"} 500',
    'peel_link_bandwidth_bytes_per_second{end="most"} 900',
    'peel_link_delay_seconds{end="least"} 0.005',
    'peel_link_delay_seconds{end="most"} 0.08',
    'peel_registry_endpoints{state="answering"} 2',
    'peel_registry_endpoints{state="away"} 1',
    'peel_registry_endpoints{state="probing"} 0',
  ];
  const totals = [
    'peel_read_ahead_fetched_bytes_total 100',
    'peel_read_ahead_used_bytes_total 60',
    'peel_cache_evicted_bytes_total 7',
  ];
  expect(await linesOf(metrics)).toEqual([...atFirst.slice(0, -3), ...gauges, ...totals]);
  // A layer that is closed takes its numbers with it; a counter never goes back.
  found = { readAhead: { fetchedBytesTotal: 40, usedBytesTotal: 70 }, links: [] };
  expect(await linesOf(metrics)).toEqual([
    ...atFirst.slice(0, -3),
    'peel_read_ahead_fetched_bytes_total 100',
    'peel_read_ahead_used_bytes_total 70',
    'peel_cache_evicted_bytes_total 7',
  ]);
});
