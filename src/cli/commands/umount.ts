import path from 'node:path';
import type { Command } from 'commander';
import { mountPath } from '../../image/mount-target.ts';
import { example } from '../command.ts';
import type { CliContext } from '../context.ts';
import { findDaemon } from '../find-daemon.ts';
import { withNode } from '../with-node.ts';

export function define(command: Command, context: CliContext): void {
  command
    .description('Also clears what a killed mount process left behind. A mount in use is refused; --lazy detaches it.')
    .argument('<dir>', 'where the image is mounted')
    .option('-l, --lazy', 'detach now; it ends with its last user')
    .action(async (dir: string, options: { lazy?: true }) => {
      const detach = options.lazy === true;
      const { signal } = context;
      const daemon = await findDaemon(context);
      const unmounted =
        daemon === undefined
          ? await withNode(context, (node) => node.unmount(dir, { detach, signal }))
          : await daemon.unmount({ dir: await mountPath(dir).catch(() => path.resolve(dir)), detach }, { signal });
      if (context.options.json) await context.output.value(unmounted);
    });
  example(command, 'peel umount /mnt');
}
