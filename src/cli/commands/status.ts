import type { Command } from 'commander';
import { keeperStatus } from '../../daemon/keeper-status.ts';
import { example } from '../command.ts';
import type { CliContext } from '../context.ts';
import { placeOf, requireDaemon } from '../find-daemon.ts';
import { mountColumns, mountRows } from '../mount-table.ts';
import { keeperLine, statusLines } from '../status-text.ts';
import { withNode } from '../with-node.ts';

export function define(command: Command, context: CliContext): void {
  command
    .description('Without a daemon it lists the mounts that have processes of their own, and its exit code is 1.')
    .action(async () => {
      const { output, options, signal } = context;
      const daemon = await requireDaemon(context).catch(async (error: unknown) => {
        await printRest(context);
        throw error;
      });
      const report = await daemon.status({ signal });
      if (options.json) await output.value(report);
      else await output.lines(statusLines(report, Date.now()));
    });
  example(command, 'peel status');
}

/** Nothing where nothing is mounted, and nobody waits for a daemon. */
async function printRest(context: CliContext): Promise<void> {
  const { output, options, signal } = context;
  const mounts = await withNode(context, (node) => node.mounts());
  const { keeper: socket } = await placeOf(context);
  const keeper = await keeperStatus({ socket, timeoutMs: 1_000, signal }).catch(() => undefined);
  if (options.json) return await output.value({ mounts, keeper });
  if (keeper !== undefined) await output.line(keeperLine(keeper));
  if (mounts.length > 0) await output.table(mountColumns, mountRows(mounts));
}
