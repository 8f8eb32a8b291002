import { humanBytes, humanDuration, percent } from '../human.ts';
import type { Column } from '../table.ts';
import { totalLines } from '../why-text.ts';
import type { LazyTiming, Timing } from './contestants.ts';
import type { Traffic } from './demo-registry.ts';

export interface Measured extends Timing {
  readonly traffic: Traffic;
}

export interface DemoReport {
  /** Bytes of all layers, as blobs and as tars. */
  readonly layerBytes: number;
  readonly unpackedBytes: number;
  readonly layers: number;
  readonly lazy: Measured & LazyTiming;
  readonly eager: Measured;
}

/** From this share of the layers' bytes on, mounting was not lazy enough. */
export const allowedShare = 0.3;

export function lazyShare({ lazy, layerBytes }: DemoReport): number {
  return lazy.traffic.layerBytes / layerBytes;
}

export const reportColumns: readonly Column[] = [
  { title: '' },
  { title: 'peel mount', align: 'right' },
  { title: 'download and unpack', align: 'right' },
];

export function reportRows({ layerBytes, unpackedBytes, layers, lazy, eager }: DemoReport): string[][] {
  const row = (title: string, value: (side: Measured) => string): string[] => [title, value(lazy), value(eager)];
  return [
    ['image, unpacked', humanBytes(unpackedBytes), ''],
    [`image, compressed (${layers} layers)`, humanBytes(layerBytes), ''],
    row('layer bytes over the network', ({ traffic }) => humanBytes(traffic.layerBytes)),
    row('  of the layers', ({ traffic }) => percent(traffic.layerBytes, layerBytes)),
    row('all bytes, manifests and index too', ({ traffic }) => humanBytes(traffic.bytes)),
    row('requests', ({ traffic }) => String(traffic.requests)),
    row('until the tree is there', ({ readyMs }) => humanDuration(readyMs)),
    row('until the first byte', ({ firstByteMs }) => humanDuration(firstByteMs)),
    row("until the program's answer", ({ answerMs }) => humanDuration(answerMs)),
  ];
}

/** Of the mount: what was needed and fetched, and how long reads waited. */
export function startLines({ lazy }: DemoReport): string[] {
  return totalLines(lazy.start).slice(0, 4);
}

/** Without the list of all reads that waited. */
export function reportJson(report: DemoReport): Record<string, unknown> {
  const { start, ...lazy } = report.lazy;
  const { totals, wastedBytes, avoidable } = start;
  return { ...report, lazy: { ...lazy, totals, wastedBytes, avoidable }, lazyShare: lazyShare(report), allowedShare };
}
