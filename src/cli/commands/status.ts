import type { Command } from 'commander';
import { example } from '../command.ts';
import type { CliContext } from '../context.ts';
import { requireDaemon } from '../find-daemon.ts';
import { mountColumns, mountRows } from '../mount-table.ts';
import { statusLines } from '../status-text.ts';
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
      else await output.lines(statusLines(report, Date.now()));
    });
  example(command, 'peel status');
}

/** Nothing where nothing is mounted. */
async function printMounts(context: CliContext): Promise<void> {
  const mounts = await withNode(context, (node) => node.mounts());
  if (context.options.json) await context.output.value({ mounts });
  else if (mounts.length > 0) await context.output.table(mountColumns, mountRows(mounts));
}
