import type { Command } from 'commander';
import { example } from '../command.ts';
import type { CliContext } from '../context.ts';
import { withNode } from '../with-node.ts';

export function define(command: Command, context: CliContext): void {
  command
    .description('Also clears what a killed mount process left behind. A mount in use is refused; --lazy detaches it.')
    .argument('<dir>', 'where the image is mounted')
    .option('-l, --lazy', 'detach now; it ends with its last user')
    .action(async (dir: string, options: { lazy?: true }) => {
      const unmounted = await withNode(context, (node) =>
        node.unmount(dir, { detach: options.lazy === true, signal: context.signal }),
      );
      if (context.options.json) await context.output.value(unmounted);
    });
  example(command, 'peel umount /mnt');
}
