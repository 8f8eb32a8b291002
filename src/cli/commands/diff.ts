import type { Command } from 'commander';
import type { Image } from '../../image/image.ts';
import { displayBytes } from '../../util/byte-string.ts';
import { example } from '../command.ts';
import type { CliContext } from '../context.ts';
import { type Difference, differences } from '../image-diff.ts';
import { jsonPath } from '../image-path.ts';
import { addImageOptions, imageArgument, type ImageOptions, withImages } from '../with-image.ts';

interface DiffOptions extends ImageOptions {
  readonly quick?: true;
}

export function define(command: Command, context: CliContext): void {
  addImageOptions(command)
    .description('One line each: A added, M modified, D deleted. A new time alone is no modification.')
    .argument('<from>', imageArgument)
    .argument('<to>', imageArgument)
    .option('--quick', 'take files of the same size and time as equal instead of comparing their bytes')
    .action(async (from: string, to: string, options: DiffOptions) => {
      await withImages(context, [from, to], options, async (images) => {
        const [older, newer] = images as [Image, Image];
        const found: Difference[] = [];
        const compare = differences(older, newer, { quick: options.quick === true, signal: context.signal });
        for await (const difference of compare) {
          if (context.options.json) found.push(difference);
          else await context.output.line(`${difference.kind} ${displayBytes(difference.path)}`);
        }
        if (context.options.json) {
          await context.output.value(found.map(({ kind, path, why }) => ({ kind, ...jsonPath(path), why })));
        }
      });
    });
  example(command, 'peel diff debian:12.0 debian:12.1');
}
