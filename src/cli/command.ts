import type { Command } from 'commander';
import type { CliContext } from './context.ts';

/** What a file in `commands/` exports: it adds arguments, options, one example and the action to an empty command. */
export interface CommandModule {
  readonly define: (command: Command, context: CliContext) => void;
}

/** The example at the end of a command's `--help`. */
export function example(command: Command, line: string): void {
  command.addHelpText('after', `\nExample:\n  $ ${line}`);
}
