import { type Command, Option } from 'commander';
import type { Node } from '../../daemon/node.ts';
import { example } from '../command.ts';
import type { CliContext } from '../context.ts';
import { UsageError } from '../errors.ts';
import { formatName, printCreated, printShown } from '../index-text.ts';
import { parseSize } from '../options.ts';
import { parsePeelSpanSize, parseSpanSize } from '../span-size.ts';
import {
  addPlatformOption,
  addPlatformOptions,
  checkTarget,
  chosenPlatforms,
  type PlatformOptions,
} from '../platform-choice.ts';
import { checkReference, imageArgument } from '../with-image.ts';
import { withNode } from '../with-node.ts';

interface CreateOptions extends PlatformOptions {
  readonly push?: true;
  readonly format?: 'peel' | 'soci' | 'both';
  readonly spanSize?: number;
  readonly peelSpanSize?: number;
  readonly minLayerSize?: number;
}

export function define(command: Command, context: CliContext): void {
  defineCreate(
    command.command('create').description('Index the layers of an image; the indexes are kept on this node.'),
    context,
  );
  defineLs(
    command.command('ls').description('List the indexes on this node, or those that a registry has for an image.'),
    context,
  );
  defineShow(
    command.command('show').description('Show which layers an index, or each index of an image, describes, and how.'),
    context,
  );
  definePush(command.command('push').description("Push this node's indexes of an image, as referrers of it."), context);
  defineRm(
    command
      .command('rm')
      .description('Forget an index, or those of an image, on this node; the copy in a registry stays.'),
    context,
  );
}

function defineCreate(command: Command, context: CliContext): void {
  addPlatformOptions(command)
    .argument('<image>', imageArgument)
    .option('--push', 'push them as referrers of the image, so that everybody mounts it lazily')
    .addOption(
      new Option(
        '--format <format>',
        'peel: fine-grained, for peel; soci: for every SOCI snapshotter; both are made in one reading',
      )
        .choices(['peel', 'soci', 'both'])
        .default('both'),
    )
    .option(
      '--span-size <size>',
      'SOCI: unpacked bytes that are fetched together: less is lazier, more makes a smaller index, at least 64KiB (default: 4MiB)',
      parseSpanSize,
    )
    .option(
      '--peel-span-size <size>',
      'the same for the peel index, at least 4KiB (default: 256KiB)',
      parsePeelSpanSize,
    )
    .option(
      '--min-layer-size <size>',
      'leave out layers that are smaller (default: 1MiB for peel, 10MiB for SOCI)',
      parseSize,
    )
    .action(async (reference: string, options: CreateOptions) => {
      checkReference(reference);
      checkSpanSizes(options);
      const wish = {
        ...chosenPlatforms(context, options),
        format: options.format,
        spanSize: options.spanSize,
        peelSpanSize: options.peelSpanSize,
        minLayerSize: options.minLayerSize,
        push: options.push,
        onProgress: context.progress.report,
      };
      const reports = await withNode(context, (node) => node.indexes.create(reference, wish), options);
      context.progress.close();
      if (context.options.json) await context.output.value(reports);
      else for (const report of reports) await printCreated(context, report);
    });
  example(command, 'peel index create localhost:5000/app:1 --push');
}

function defineLs(command: Command, context: CliContext): void {
  addPlatformOptions(command)
    .argument('[image]', 'ask its registry instead')
    .action(async (reference: string | undefined, options: PlatformOptions) => {
      if (reference !== undefined) checkReference(reference);
      const list = async ({ indexes }: Node) => {
        const local = indexes
          .list()
          .map(({ image, digest, format, source }) => ({ image, index: digest, format, source }));
        const rows =
          reference === undefined
            ? local
            : (await indexes.listRemote(reference, chosenPlatforms(context, options))).map((row) => ({
                ...row,
                source: 'registry',
              }));
        if (context.options.json) await context.output.value(rows);
        else {
          const columns = [{ title: 'IMAGE' }, { title: 'INDEX' }, { title: 'FORMAT' }, { title: 'FROM' }];
          await context.output.table(
            columns,
            rows.map((row) => [row.image, row.index ?? 'none', formatName(row.format), row.source]),
          );
        }
      };
      await withNode(context, list, options);
    });
  example(command, 'peel index ls localhost:5000/app:1');
}

function defineShow(command: Command, context: CliContext): void {
  addPlatformOption(command)
    .argument('<image-or-index>', 'an image reference, or the digest of an index that this node knows')
    .action(async (target: string, options: PlatformOptions) => {
      const show = (node: Node) =>
        node.indexes.show(checkTarget(target, 'peel index ls'), chosenPlatforms(context, options));
      const reports = await withNode(context, show, options);
      if (context.options.json) await context.output.value(reports);
      else await printShown(context, reports);
    });
  example(command, 'peel index show localhost:5000/app:1');
}

function definePush(command: Command, context: CliContext): void {
  addPlatformOptions(command)
    .argument('<image>', imageArgument)
    .action(async (reference: string, options: PlatformOptions) => {
      checkReference(reference);
      const push = (node: Node) => node.indexes.push(reference, chosenPlatforms(context, options));
      const pushed = await withNode(context, push, options);
      if (context.options.json) await context.output.value(pushed);
      else
        for (const { index, format, image } of pushed)
          await context.output.line(`pushed ${formatName(format)} index ${index} for ${image}`);
    });
  example(command, 'peel index push localhost:5000/app:1');
}

function defineRm(command: Command, context: CliContext): void {
  addPlatformOptions(command)
    .argument('<image-or-index>', 'an image reference, or the digest of an index')
    .action(async (target: string, options: PlatformOptions) => {
      const remove = (node: Node) =>
        node.indexes.remove(checkTarget(target, 'peel index ls'), chosenPlatforms(context, options));
      const removed = await withNode(context, remove, options);
      if (context.options.json) await context.output.value({ removed });
      else await context.output.lines(removed.map((digest) => `removed ${digest}`));
    });
  example(command, 'peel index rm localhost:5000/app:1');
}

function checkSpanSizes({ format, spanSize, peelSpanSize }: CreateOptions): void {
  if (format === 'soci' && peelSpanSize !== undefined)
    throw new UsageError('--peel-span-size is for a peel index: give --span-size with --format soci');
  if (format === 'peel' && spanSize !== undefined)
    throw new UsageError('--span-size is for SOCI: give --peel-span-size with --format peel');
}
