// What the `index` commands print.
import type { IndexStatus } from '../image/image.ts';
import type { IndexInfoReport, IndexLayerInfo, IndexReport, LayerOutcome } from '../image/index-report.ts';
import type { CliContext } from './context.ts';
import { humanBytes, shortDigest } from './human.ts';

const right = { align: 'right' as const };

const formatNames: Readonly<Record<IndexStatus['format'], string>> = {
  peel: 'peel',
  'soci-v1': 'SOCI v1',
  'soci-v2': 'SOCI v2',
  node: 'node',
};

/** As a person calls it. */
export function formatName(format: IndexStatus['format'] | undefined): string {
  return format === undefined ? '?' : formatNames[format];
}

export async function printCreated({ output }: CliContext, report: IndexReport): Promise<void> {
  const { platform, indexes, pushed, layers } = report;
  const name = platform ?? report.image;
  const made = [
    ...(indexes.peel === undefined ? [] : [`peel index ${indexes.peel}`]),
    ...(indexes.soci === undefined ? [] : [`SOCI index ${indexes.soci}`]),
  ];
  for (const index of made) await output.line(`${name}: ${index}${pushed ? ', pushed' : ''}`);
  if (made.length === 0) await output.line(`${name}: no layer gets an index`);
  const has = { peel: layers.some(({ peel }) => peel), soci: layers.some(({ soci }) => soci) };
  const columns = [
    { title: 'LAYER' },
    { title: 'SIZE', ...right },
    ...(has.peel ? [{ title: 'PEEL INDEX' }] : []),
    ...(has.soci ? [{ title: 'SOCI INDEX' }] : []),
  ];
  const rows = layers.map((layer) => [
    shortDigest(layer.layer),
    humanBytes(layer.size),
    ...(has.peel ? [peelCell(layer)] : []),
    ...(has.soci ? [sociCell(layer)] : []),
  ]);
  await output.table(columns, rows);
}

function peelCell({ peel }: LayerOutcome): string {
  if (peel?.table === undefined) return none(peel?.skipped);
  return humanBytes((peel.tableSize ?? 0) + (peel.windowsSize ?? 0));
}

function sociCell({ soci }: LayerOutcome): string {
  return soci?.ztoc === undefined ? none(soci?.skipped) : humanBytes(soci.ztocSize ?? 0);
}

function none(why: string | undefined): string {
  return `none: ${why ?? 'no reason given'}`;
}

export async function printShown(context: CliContext, reports: readonly IndexInfoReport[]): Promise<void> {
  const { output } = context;
  for (const [i, report] of reports.entries()) {
    if (i > 0) await output.line('');
    await output.line(`Index:   ${report.index} (${formatName(report.format)}, ${report.source})`);
    await output.line(`Image:   ${report.image ?? 'not said'}`);
    await output.line(`Made by: ${report.buildTool ?? 'not said'}`);
    await output.line('');
    await printLayers(context, report);
  }
}

async function printLayers({ output }: CliContext, { format, layers }: IndexInfoReport): Promise<void> {
  const isPeel = format === 'peel';
  const columns = [
    { title: 'LAYER' },
    { title: isPeel ? 'TABLE' : 'ZTOC' },
    { title: 'SIZE', ...right },
    ...(isPeel ? [{ title: 'WINDOWS', ...right }] : []),
    { title: 'SPAN', ...right },
    { title: 'SPANS', ...right },
    { title: 'ENTRIES', ...right },
  ];
  const row = ({ layer, table, ztoc, size, windowsSize, spanSize, spans, entries }: IndexLayerInfo): string[] => [
    shortDigest(layer),
    shortDigest(table ?? ztoc ?? '?'),
    humanBytes(size),
    ...(isPeel ? [windowsSize === undefined ? 'none' : humanBytes(windowsSize)] : []),
    spanSize === undefined ? '?' : humanBytes(spanSize),
    String(spans ?? '?'),
    String(entries ?? '?'),
  ];
  await output.table(columns, layers.map(row));
}
