// What `peel status` says to people.
import type { KeeperStatus } from '../daemon/keeper-status.ts';
import type { RegistryEndpoint } from '../daemon/origins.ts';
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
  const { version, pid, startedAt, root, runDir, restartNeeded, warnings, keeper, mounts, snapshotter, unpacking } =
    report;
  const { degraded = [] } = report;
  const away = (report.registries ?? []).filter(({ state }) => state !== 'answering');
  const served = mounts.flatMap(({ dir, serving }) => serving.map((line) => ({ dir, line })));
  return [
    `peel ${version}, process ${pid}, up for ${humanDuration(now - startedAt)}`,
    `state in ${root}, sockets in ${runDir}`,
    ...(keeper === undefined ? [] : [keeperLine(keeper)]),
    // One may have a line for each problem of a file.
    ...warnings.flatMap((warning) => `warning: ${warning}`.split('\n').map(printable)),
    ...(degraded.length === 0 ? [] : ['', 'Degraded (see `peel fsck`)', ...degraded.map(oneLine)]),
    ...(restartNeeded.length === 0 ? [] : [`these settings count after a restart: ${restartNeeded.join(', ')}`]),
    ...away.map(awayLine),
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

/** Without a daemon it is all there is to say. */
export function keeperLine({ mode, pid, fds, maxFds, daemon }: KeeperStatus): string {
  const ends = daemon === undefined || daemon.restarts === 0 ? '' : `, ${daemon.restarts} restarts`;
  const last = daemon?.lastEnd === undefined ? '' : `, the last after ${printable(daemon.lastEnd)}`;
  const what =
    mode === 'alone'
      ? ''
      : `, starts the daemon${daemon?.phase === 'ready' ? '' : ` (${daemon?.phase})`}${ends}${last}`;
  return `keeper, process ${pid}, holds ${fds} of at most ${maxFds} file descriptors${what}`;
}

function awayLine({ host, endpoint, failures, failingMs, state, askedInMs, why }: RegistryEndpoint): string {
  const name = endpoint === host ? `registry ${host}` : `${endpoint} for registry ${host}`;
  const next = state === 'probing' ? 'it is being asked' : `asked again in ${humanDuration(askedInMs)}`;
  return printable(`${name} fails for ${humanDuration(failingMs)}, ${failures} times in a row, ${next}: ${why ?? ''}`);
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
