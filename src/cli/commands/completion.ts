import { Argument, type Command } from 'commander';
import { example } from '../command.ts';
import { completionScript, shells } from '../completion-script.ts';
import type { CliContext } from '../context.ts';

/** The program loads every other command before this one runs, so that their options can be listed. */
export function define(command: Command, context: CliContext): void {
  command
    .addArgument(new Argument('<shell>', 'shell to complete in').choices(Object.keys(shells)))
    .action(async (shell: keyof typeof shells) => {
      const script = completionScript(shell, command.parent ?? command);
      if (context.options.json) await context.output.value({ shell, script });
      else await context.output.line(script.trimEnd());
    });
  example(command, 'peel completion bash > /etc/bash_completion.d/peel');
}
