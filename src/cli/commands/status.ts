import type { Command } from 'commander';
import type { LayerLine, SnapshotterReport, StatusReport } from '../../daemon/status-report.ts';
import { example } from '../command.ts';
import type { CliContext } from '../context.ts';
import { requireDaemon } from '../find-daemon.ts';
import { humanDuration, percent, printable, shortDigest } from '../human.ts';
import { mountColumns, mountRows } from '../mount-table.ts';
import { withNode } from '../with-node.ts';

export function define(command: Command, context: CliContext): void {
  command
    .description('Without a daemon it lists the mounts that have processes of their own, and its exit code is 1.')
    .action(async () => {
      const { output, options, signal } = context;
      const daemon = await requireDaemon(context).catch(async (error: unknown) => {
        await printMounts(context);
        throw error;
      });
      const report = await daemon.status({ signal });
      if (options.json) await output.value(report);
      else await print(context, report);
    });
  example(command, 'peel status');
}

/** Nothing where nothing is mounted. */
async function printMounts(context: CliContext): Promise<void> {
  const mounts = await withNode(context, (node) => node.mounts());
  if (context.options.json) await context.output.value({ mounts });
  else if (mounts.length > 0) await context.output.table(mountColumns, mountRows(mounts));
}

async function print({ output }: CliContext, report: StatusReport): Promise<void> {
  const { version, pid, startedAt, root, runDir, restartNeeded, warnings, mounts, snapshotter } = report;
  await output.lines([
    `peel ${version}, process ${pid}, up for ${humanDuration(Date.now() - startedAt)}`,
    `state in ${root}, sockets in ${runDir}`,
    // One may have a line for each problem of a file.
    ...warnings.flatMap((warning) => `warning: ${warning}`.split('\n').map(printable)),
    ...(restartNeeded.length === 0 ? [] : [`these settings count after a restart: ${restartNeeded.join(', ')}`]),
  ]);
  if (mounts.length > 0) {
    await output.lines(['', 'Mounts']);
    await output.table(mountColumns, mountRows(mounts));
    const rows = mounts.flatMap(({ dir, serving }) => serving.map((line) => [printable(dir), ...cellsOf(line)]));
    if (rows.length > 0) {
      await output.lines(['', 'Layers of mounts']);
      await output.table([{ title: 'DIRECTORY' }, ...layerColumns], rows);
    }
  }
  if (snapshotter !== undefined) await printSnapshotter(output, snapshotter);
}

const layerColumns = [
  { title: 'LAYER' },
  { title: 'SERVED' },
  { title: 'HERE', align: 'right' },
  { title: 'WHY' },
  { title: 'LAST ERROR' },
] as const;

async function printSnapshotter(
  output: CliContext['output'],
  { socket, layers, deferrals, snapshots }: SnapshotterReport,
): Promise<void> {
  await output.lines(['', `Snapshotter on ${socket}: ${countsOf(snapshots) || 'no snapshots'}`]);
  if (Object.keys(deferrals).length > 0) await output.line(`layers left to containerd: ${countsOf(deferrals)}`);
  if (layers.length === 0) return;
  const rows = layers.map((line) => [printable(line.images.join(' ')), line.transport ?? '', ...cellsOf(line)]);
  await output.table([{ title: 'IMAGE' }, { title: 'TRANSPORT' }, ...layerColumns], rows);
}

function cellsOf({ layer, serving, presentBytes, streamSize, why, lastError }: LayerLine): string[] {
  const here = presentBytes === undefined || streamSize === undefined ? '' : percent(presentBytes, streamSize);
  return [printable(shortDigest(layer)), serving, here, printable(why), printable(lastError ?? '')];
}

function countsOf(counts: Readonly<Record<string, number>>): string {
  return Object.entries(counts)
    .map(([name, count]) => `${count} ${name}`)
    .join(', ');
}
