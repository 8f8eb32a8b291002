import type { Command } from 'commander';
import type { ConfigOverrides } from '../config/load-config.ts';
import type { CliContext } from './context.ts';

/** What the global options say of the daemon's configuration; nothing where they have their default. */
export function configOverrides(command: Command, { options }: CliContext): ConfigOverrides {
  let program = command;
  while (program.parent) program = program.parent;
  const isGiven = program.getOptionValueSource('logLevel') === 'cli';
  return { root: options.root, logLevel: isGiven ? options.logLevel : undefined };
}
