// A node whose command lines share one process: for tests of what commands answer.
import { CommandProcess } from './command-process.ts';
import { PeelNode } from './peel-node.ts';
import { type RunOptions, type RunResult } from './run.ts';

export class CommandNode extends PeelNode {
  readonly #commands = new CommandProcess(this.env);

  /** With options in a process of its own, which they are about. */
  override peel(args: readonly string[], options?: RunOptions): Promise<RunResult> {
    return options === undefined || Object.keys(options).length === 0
      ? this.#commands.peel(args)
      : super.peel(args, options);
  }

  /** In a process of its own, to its end. */
  alone(args: readonly string[]): Promise<RunResult> {
    return super.peel(args);
  }

  override async close(): Promise<void> {
    await this.#commands.close();
    await super.close();
  }
}
