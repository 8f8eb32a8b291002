// What `peel why` says to people.
import type { Avoidance } from '../image/start-advice.ts';
import type { AvoidableWait, StalledRead, StartReport } from '../image/start-report.ts';
import { fetchClasses } from '../layer/fetch-class.ts';
import { humanBytes, humanDuration, localMinute, percent, printable, shortDigest } from './human.ts';
import { alignedLines, tableLines } from './table.ts';

export interface WhyOptions {
  readonly sort: 'time' | 'wait';
  /** Reads that are listed: those that waited longest. */
  readonly most: number;
  /** Of the terminal; undefined: lines may be of any length. */
  readonly columns: number | undefined;
}

const helps: Readonly<Record<Avoidance, string>> = {
  registry: 'a nearer, faster or steadier registry: it was foreseen and came too late, or requests failed',
  'read-ahead': 'read-ahead: what is before it in the layer had just been read',
  'finer-index': 'an index with smaller spans: little was read of much that had to come (peel index create)',
  fill: 'the background fill, had it run from the first second: the link could have brought everything by then',
  profile: 'a profile of an earlier start, which asks for it before anybody reads',
};

const barWidth = { least: 10, most: 40 } as const;
const pathWidth = 24;

/** Lines without their newlines. */
export function whyLines(report: StartReport, options: WhyOptions): string[] {
  const { reference, dir, startedAt, ms, over, reads, totals, readsLeftOut } = report;
  const place = dir === undefined ? 'in containerd' : `on ${printable(dir)}`;
  const head = [
    `${printable(reference)} ${place}, since ${localMinute(startedAt / 1000)}`,
    `watched for ${humanDuration(ms)}${over ? '' : ', and it goes on'}`,
  ];
  if (totals.stalls === 0) {
    const what = totals.touchedSpans === 0 ? 'nothing has been read' : 'no read had to wait';
    return [...head, '', `${what}.`, '', ...totalLines(report)];
  }
  const longest = reads.toSorted((a, b) => b.ms - a.ms).slice(0, options.most);
  const shown = options.sort === 'wait' ? longest : longest.toSorted((a, b) => a.at - b.at);
  const left = reads.length - shown.length + readsLeftOut;
  return [
    ...head,
    '',
    ...waterfall(shown, options.columns),
    ...(left === 0 ? [] : [`${left} more waited less${readsLeftOut === 0 ? ' (--all lists them)' : ''}`]),
    '',
    ...totalLines(report),
    '',
    'What would have avoided it',
    ...avoidableLines(report.avoidable),
  ];
}

function waterfall(reads: readonly StalledRead[], columns: number | undefined): string[] {
  const from = Math.min(...reads.map(({ at }) => at));
  const to = Math.max(...reads.map(({ at, ms }) => at + ms));
  const sources = sourcesOf(reads);
  const cells = (bar: number, path: number | undefined) => [
    ['AT', 'WAIT', scale(from, to, bar), 'FETCHED', 'ASKED BY', 'AVOIDED BY', 'PATH'],
    ...reads.map((read) => [
      humanDuration(read.at),
      humanDuration(read.ms),
      barOf(read, { from, to, width: bar }),
      read.fetch === undefined ? '' : humanBytes(read.fetch.bytes),
      read.fetch === undefined ? '' : askedBy(read, read.fetch),
      read.avoidedBy ?? '',
      whatOf(read, { withSource: sources.length > 1, width: path }),
    ]),
  ];
  const align = ['right', 'right', 'left', 'right', 'left', 'left', 'left'] as const;
  const lines = (bar: number, path: number | undefined) => alignedLines(cells(bar, path), align, '  ');
  if (columns === undefined) return lines(barWidth.most, undefined);
  // All that is left beside the other columns is shared by the bar and the path.
  const others = (lines(0, 4)[0] ?? '').trimEnd().length - 'PATH'.length;
  const free = columns - others;
  const bar = Math.min(barWidth.most, Math.max(barWidth.least, Math.min(Math.floor(free / 2), free - pathWidth)));
  return lines(bar, Math.max(pathWidth, free - bar));
}

/** The two ends of all bars. */
function scale(from: number, to: number, width: number): string {
  const [left, right] = [humanDuration(from), humanDuration(to)];
  const gap = width + 2 - left.length - right.length;
  return gap > 0 ? left + ' '.repeat(gap) + right : '';
}

function barOf({ at, ms }: StalledRead, { from, to, width }: { from: number; to: number; width: number }): string {
  if (width === 0) return '||';
  const place = (time: number) => ((time - from) / Math.max(to - from, 1)) * width;
  const start = Math.min(Math.floor(place(at)), width - 1);
  const end = Math.min(Math.max(Math.ceil(place(at + ms)), start + 1), width);
  return `|${' '.repeat(start)}${'#'.repeat(end - start)}${' '.repeat(width - end)}|`;
}

/** What had been asked for before the read came too late. */
function askedBy({ at }: StalledRead, { fetchClass, askedAt }: NonNullable<StalledRead['fetch']>): string {
  const early = at - askedAt;
  return fetchClass === 'demand' || early < 1 ? fetchClass : `${fetchClass}, ${humanDuration(early)} before`;
}

function whatOf(read: StalledRead, options: { withSource: boolean; width: number | undefined }): string {
  const { path, layer, offset, error, fetch } = read;
  const notes = [
    ...(error === undefined ? [] : [error]),
    ...(fetch === undefined || fetch.retries === 0
      ? []
      : [fetch.retries === 1 ? '1 retry' : `${fetch.retries} retries`]),
    ...(options.withSource && fetch !== undefined ? [`from ${sourceOf(read)}`] : []),
  ];
  const note = notes.length === 0 ? '' : ` (${notes.join(', ')})`;
  const name = path ?? `${shortDigest(layer)} at ${offset}`;
  const room = options.width === undefined ? name.length : Math.max(options.width - note.length, 12);
  return (name.length <= room ? name : `…${name.slice(1 - room)}`) + note;
}

/** The repository; the digest of its blob says nothing more than the layer. */
function sourceOf({ fetch }: StalledRead): string {
  return printable(fetch?.source.replace(/@[a-z0-9]+:[0-9a-f]+$/, '') ?? '');
}

function sourcesOf(reads: readonly StalledRead[]): string[] {
  return [...new Set(reads.map(sourceOf))].filter((source) => source !== '');
}

/** Needed, fetched, wasted, waited, and from where. */
export function totalLines({ totals, reads, wastedBytes, ms, over }: StartReport): string[] {
  const { neededBytes, touchedSpans, cachedBytes, fetched, fetchingMs, retries, stalls, failedReads, waitedMs } =
    totals;
  const parts = fetchClasses.flatMap((name) => {
    const { bytes, usedBytes } = fetched[name];
    const share = usedBytes >= bytes ? '' : ` (${percent(usedBytes, bytes)} read)`;
    return bytes === 0 ? [] : [`${name} ${humanBytes(bytes)}${share}`];
  });
  const all = fetchClasses.reduce((sum, name) => sum + fetched[name].bytes, 0);
  const rate = fetchingMs === 0 ? '' : ` in ${humanDuration(fetchingMs)}, ${humanBytes((1000 * all) / fetchingMs)}/s`;
  const sources = sourcesOf(reads);
  return [
    `needed:   ${humanBytes(neededBytes)} in ${touchedSpans} ${touchedSpans === 1 ? 'span' : 'spans'}, of which ${humanBytes(cachedBytes)} were in the cache`,
    `fetched:  ${humanBytes(all)}${rate}${parts.length === 0 ? '' : `: ${parts.join(', ')}`}`,
    `wasted:   ${humanBytes(wastedBytes)} not read${over ? '' : ' so far'}`,
    `waited:   ${humanDuration(waitedMs)} of ${humanDuration(ms)}, ${stalls} ${stalls === 1 ? 'read' : 'reads'}${failedReads === 0 ? '' : `, ${failedReads} failed`}`,
    ...(sources.length === 0 ? [] : [`from:     ${sources.join(', ')}`]),
    ...(retries === 0 ? [] : [`retries:  ${retries}`]),
  ];
}

function avoidableLines(waits: readonly AvoidableWait[]): string[] {
  return tableLines(
    [{ title: 'WAIT', align: 'right' }, { title: 'READS', align: 'right' }, { title: 'BY' }],
    waits.map(({ by, reads, ms }) => [
      humanDuration(ms),
      String(reads),
      by === undefined
        ? 'nothing that peel knows of: it was about to be here, another process fetched it, or an error of this machine'
        : helps[by],
    ]),
  );
}
