// What `peel status` says to people.
import type { LayerLine, SnapshotterReport, StatusReport } from '../daemon/status-report.ts';
import { humanDuration, oneLine, percent, printable, shortDigest } from './human.ts';
import { mountColumns, mountRows } from './mount-table.ts';
import { tableLines } from './table.ts';
import { unpackLines } from './unpack-text.ts';

const layerColumns = [
  { title: 'LAYER' },
  { title: 'SERVED' },
  { title: 'HERE', align: 'right' },
  { title: 'WHY' },
] as const;

/** `now`: ms since the epoch. */
export function statusLines(report: StatusReport, now: number): string[] {
  const { version, pid, startedAt, root, runDir, restartNeeded, warnings, mounts, snapshotter, unpacking } = report;
  const { degraded = [] } = report;
  const served = mounts.flatMap(({ dir, serving }) => serving.map((line) => ({ dir, line })));
  return [
    `peel ${version}, process ${pid}, up for ${humanDuration(now - startedAt)}`,
    `state in ${root}, sockets in ${runDir}`,
    // One may have a line for each problem of a file.
    ...warnings.flatMap((warning) => `warning: ${warning}`.split('\n').map(printable)),
    ...(degraded.length === 0 ? [] : ['', 'Degraded (see `peel fsck`)', ...degraded.map(oneLine)]),
    ...(restartNeeded.length === 0 ? [] : [`these settings count after a restart: ${restartNeeded.join(', ')}`]),
    ...(mounts.length === 0 ? [] : ['', 'Mounts', ...tableLines(mountColumns, mountRows(mounts))]),
    ...(served.length === 0
      ? []
      : [
          '',
          'Layers of mounts',
          ...tableLines(
            [{ title: 'DIRECTORY' }, ...layerColumns],
            served.map(({ dir, line }) => [printable(dir), ...cellsOf(line)]),
          ),
          ...errorLines(served.map(({ line }) => line)),
        ]),
    ...(snapshotter === undefined ? [] : snapshotterLines(snapshotter)),
    ...(unpacking === undefined ? [] : unpackLines(unpacking, now)),
  ];
}

function snapshotterLines({ socket, layers, deferrals, snapshots }: SnapshotterReport): string[] {
  const left = countsOf(deferrals);
  return [
    '',
    `Snapshotter on ${socket}: ${countsOf(snapshots) || 'no'} snapshots`,
    ...(left === '' ? [] : [`layers left to containerd since the start: ${left}`]),
    ...(layers.length === 0
      ? []
      : tableLines(
          [{ title: 'IMAGE' }, { title: 'TRANSPORT' }, ...layerColumns],
          layers.map((line) => [imagesOf(line.images), line.transport ?? '', ...cellsOf(line)]),
        )),
    ...errorLines(layers),
  ];
}

/** A base layer may be in a hundred. */
function imagesOf(images: readonly string[]): string {
  const [first = '', ...others] = images.map(printable);
  return others.length === 0 ? first : `${first} and ${others.length} more`;
}

function cellsOf({ layer, serving, presentBytes, streamSize, why }: LayerLine): string[] {
  const here = presentBytes === undefined || streamSize === undefined ? '' : percent(presentBytes, streamSize);
  return [shortDigest(layer), serving, here, oneLine(why)];
}

/** Below the table: most layers have none, and those that have one have a long one. */
function errorLines(lines: readonly LayerLine[]): string[] {
  return lines.flatMap(({ layer, lastError }) =>
    lastError === undefined ? [] : [`last error of ${shortDigest(layer)}: ${oneLine(lastError)}`],
  );
}

function countsOf(counts: Readonly<Record<string, number>>): string {
  return Object.entries(counts)
    .filter(([, count]) => count > 0)
    .map(([name, count]) => `${count} ${name}`)
    .join(', ');
}
