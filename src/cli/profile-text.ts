// What the `profile` commands print.
import type { ProfileReport } from '../image/profile-service.ts';
import { rangesOf } from '../index/peel-profile.ts';
import type { CliContext } from './context.ts';
import { localMinute, shortDigest } from './human.ts';
import { formatName } from './index-text.ts';

const right = { align: 'right' as const };
/** Of a layer in a table: `--json` has all. */
const maxShown = 8;

export async function printProfiles({ output }: CliContext, reports: readonly ProfileReport[]): Promise<void> {
  const columns = [
    { title: 'IMAGE' },
    { title: 'LAYERS', ...right },
    { title: 'RUNS', ...right },
    { title: 'SPANS', ...right },
    { title: 'UPDATED' },
    { title: 'FROM' },
  ];
  const rows = reports.map(({ image, updatedAt, layers }) => [
    image,
    String(new Set(layers.map(({ layer }) => layer)).size),
    String(Math.max(...layers.map(({ runs }) => runs))),
    String(layers.reduce((sum, { spans }) => sum + spans.length, 0)),
    localMinute(updatedAt / 1000),
    [...new Set(layers.map(({ source }) => source))].join('; '),
  ]);
  await output.table(columns, rows);
}

export async function printProfile({ output }: CliContext, report: ProfileReport): Promise<void> {
  await output.line(`Image:   ${report.image}`);
  await output.line(`Updated: ${localMinute(report.updatedAt / 1000)}`);
  await output.line('');
  const columns = [
    { title: 'LAYER' },
    { title: 'INDEX' },
    { title: 'RUNS', ...right },
    { title: 'SPANS', ...right },
    { title: 'OF', ...right },
    { title: 'ORDER' },
    { title: 'FROM' },
  ];
  const rows = report.layers.map(({ layer, index, format, runs, spans, spanCount, source }) => [
    shortDigest(layer),
    `${formatName(format)} ${shortDigest(index)}`,
    String(runs),
    String(spans.length),
    String(spanCount),
    orderText(spans),
    source,
  ]);
  await output.table(columns, rows);
}

/** `0-3 17 4 …` */
function orderText(spans: readonly number[]): string {
  const ranges = rangesOf(spans);
  const shown = ranges
    .slice(0, maxShown)
    .map(([start, end]) => (end === start + 1 ? String(start) : `${start}-${end - 1}`));
  return ranges.length > maxShown ? `${shown.join(' ')} …` : shown.join(' ');
}
