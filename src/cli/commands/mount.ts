import { type Command, Option } from 'commander';
import { example } from '../command.ts';
import type { CliContext } from '../context.ts';
import { UsageError } from '../errors.ts';
import { parseDirectory } from '../options.ts';
import { mountDetached } from '../mount-detached.ts';
import { mountInDaemon } from '../mount-in-daemon.ts';
import { mountForeground } from '../mount-foreground.ts';
import { addImageOptions, checkReference, imageArgument, type ImageOptions, openOptions } from '../with-image.ts';

export interface MountOptions extends ImageOptions {
  readonly foreground?: true;
  readonly transport: 'auto' | 'kernel' | 'native' | 'fuse-native';
  readonly rw?: true;
  readonly readAhead: boolean;
  readonly fill?: true;
  readonly upper?: string;
  /** Set by the process that waits for this one. */
  readonly reportFd?: string;
  readonly logFile?: string;
}

export interface MountWish {
  readonly reference: string;
  readonly dir: string;
  readonly options: MountOptions;
}

export function define(command: Command, context: CliContext): void {
  addImageOptions(command)
    .description(
      'Returns when DIR serves. The daemon serves it where one runs; without one, and with --user, --ca-file or --insecure, a process that ends with `peel umount DIR`.',
    )
    .argument('<image>', imageArgument)
    .argument('<dir>', 'an empty directory')
    .option('--foreground', 'serve in this process until DIR is unmounted or SIGINT or SIGTERM comes')
    .addOption(
      new Option('--transport <transport>', 'how DIR is served; auto takes the fastest that works here')
        .choices(['auto', 'kernel', 'native', 'fuse-native'])
        .default('auto'),
    )
    .option('--no-read-ahead', 'fetch only what is read, neither what is likely to be next nor what a profile names')
    .option('--fill', 'fetch the rest of the image in the background too, until no registry is needed')
    .option('--rw', 'writable: changes go to a directory beside the image')
    .option('--upper <dir>', 'with --rw: where the changes stay; without it they end with the mount', parseDirectory)
    .addOption(new Option('--report-fd <fd>').hideHelp())
    .addOption(new Option('--log-file <file>').hideHelp())
    .action(async (reference: string, dir: string, options: MountOptions) => {
      checkReference(reference);
      openOptions(context, options);
      if (options.upper !== undefined && !options.rw) throw new UsageError('--upper needs --rw');
      const wish = { reference, dir, options };
      if (options.foreground) await mountForeground(context, wish);
      else if (!(await mountInDaemon(context, wish))) await mountDetached(context, wish);
    });
  example(command, 'peel mount docker.io/library/debian:12 /mnt');
}
