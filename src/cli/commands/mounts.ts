import type { Command } from 'commander';
import { example } from '../command.ts';
import type { CliContext } from '../context.ts';
import { localMinute, shortDigest } from '../human.ts';
import { withNode } from '../with-node.ts';

export function define(command: Command, context: CliContext): void {
  command.action(async () => {
    const mounts = await withNode(context, (node) => node.mounts());
    if (context.options.json) {
      await context.output.value(mounts);
      return;
    }
    const columns = [
      { title: 'DIRECTORY' },
      { title: 'IMAGE' },
      { title: 'DIGEST' },
      { title: 'TRANSPORT' },
      { title: 'MODE' },
      { title: 'SINCE' },
      { title: 'STATE' },
    ];
    const rows = mounts.map((mount) => [
      mount.dir,
      mount.reference,
      shortDigest(mount.digest),
      mount.transport,
      mount.writable ? 'rw' : 'ro',
      localMinute(mount.mountedAt / 1000),
      mount.alive ? `served by ${mount.pid}` : 'dead: peel umount clears it',
    ]);
    await context.output.table(columns, rows);
  });
  example(command, 'peel mounts');
}
