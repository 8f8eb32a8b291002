import type { Command } from 'commander';
import { example } from '../command.ts';
import type { CliContext } from '../context.ts';
import { findDaemon } from '../find-daemon.ts';
import { mountColumns, mountRows } from '../mount-table.ts';
import { withNode } from '../with-node.ts';

export function define(command: Command, context: CliContext): void {
  command.action(async () => {
    const { signal } = context;
    const daemon = await findDaemon(context);
    const mounts = (await daemon?.status({ signal }))?.mounts ?? (await withNode(context, (node) => node.mounts()));
    if (context.options.json) {
      await context.output.value(mounts);
      return;
    }
    await context.output.table(mountColumns, mountRows(mounts));
  });
  example(command, 'peel mounts');
}
