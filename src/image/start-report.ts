// A start as `peel why` explains it.
import { fetchClasses } from '../layer/fetch-class.ts';
import type { Digest } from '../oci/digest.ts';
import type { StartRow } from '../state/starts.ts';
import { type ByteString, displayBytes } from '../util/byte-string.ts';
import { adviceContext, avoidanceOf, avoidances } from './start-advice.ts';
import type { Avoidance } from './start-advice.ts';
import type { StartTotals, StartTrace, TracedLayer, TracedStall } from './start-trace.ts';

export interface StartReport extends Omit<StartRow, 'trace' | 'id'> {
  /** How long it was watched. */
  readonly ms: number;
  readonly over: boolean;
  readonly totals: StartTotals;
  /** Bytes of blob that were fetched and not read. */
  readonly wastedBytes: number;
  /** Part of the bytes that read-ahead fetched that was read; undefined when it fetched none. */
  readonly readAheadAccuracy: number | undefined;
  /** By time. */
  readonly reads: readonly StalledRead[];
  readonly readsLeftOut: number;
  /** Most costly first. */
  readonly avoidable: readonly AvoidableWait[];
  readonly layers: readonly Omit<TracedLayer, 'touched' | 'touchesLeftOut'>[];
}

export interface StalledRead extends Omit<TracedStall, 'layer'> {
  readonly layer: Digest;
  /** Of the file, from the root of the image, printable; undefined where the layer is gone. */
  readonly path: string | undefined;
  readonly avoidedBy: Avoidance | undefined;
}

export interface AvoidableWait {
  readonly by: Avoidance | undefined;
  readonly reads: number;
  /** All their waits together, also where they waited at once. */
  readonly ms: number;
}

/** `pathAt`: whose stream bytes those of a layer are, where that is known. */
export function startReport(
  row: Omit<StartRow, 'trace'>,
  trace: StartTrace,
  pathAt: (layer: Digest, offset: number) => ByteString | undefined,
): StartReport {
  const context = adviceContext(trace);
  const reads = trace.stalls.map((stall): StalledRead => {
    const layer = (trace.layers[stall.layer] as TracedLayer).digest;
    const path = pathAt(layer, stall.offset);
    const shown = path === undefined ? undefined : `/${displayBytes(path).replace(/^[./]*\//, '')}`;
    return { ...stall, layer, path: shown, avoidedBy: avoidanceOf(stall, context) };
  });
  const { fetched } = trace.totals;
  const readAhead = fetched['read-ahead'];
  return {
    reference: row.reference,
    image: row.image,
    dir: row.dir,
    startedAt: row.startedAt,
    ms: trace.ms,
    over: trace.over,
    totals: trace.totals,
    wastedBytes: fetchClasses.reduce((sum, name) => sum + fetched[name].bytes - fetched[name].usedBytes, 0),
    readAheadAccuracy: readAhead.bytes === 0 ? undefined : readAhead.usedBytes / readAhead.bytes,
    reads,
    readsLeftOut: trace.stallsLeftOut,
    avoidable: avoidableWaits(reads),
    layers: trace.layers.map(({ touched: _touched, touchesLeftOut: _leftOut, ...layer }) => layer),
  };
}

function avoidableWaits(reads: readonly StalledRead[]): AvoidableWait[] {
  return [...avoidances, undefined]
    .map((by) => {
      const mine = reads.filter(({ avoidedBy }) => avoidedBy === by);
      return { by, reads: mine.length, ms: mine.reduce((sum, { ms }) => sum + ms, 0) };
    })
    .filter((wait) => wait.reads > 0)
    .toSorted((a, b) => b.ms - a.ms);
}
