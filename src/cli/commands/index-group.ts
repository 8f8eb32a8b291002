import type { Command } from 'commander';
import type { Node } from '../../daemon/node.ts';
import type { IndexInfoReport, IndexReport } from '../../image/index-service.ts';
import { isDigest } from '../../oci/digest.ts';
import { parsePlatform } from '../../oci/platform.ts';
import { type AccessOptions, addAccessOptions } from '../access-options.ts';
import { example } from '../command.ts';
import type { CliContext } from '../context.ts';
import { UsageError } from '../errors.ts';
import { humanBytes, shortDigest } from '../human.ts';
import { parseSize, parseSpanSize } from '../options.ts';
import { checkReference, imageArgument, usage } from '../with-image.ts';
import { withNode } from '../with-node.ts';

interface PlatformOptions extends AccessOptions {
  readonly platform?: string;
  readonly allPlatforms?: true;
}

interface CreateOptions extends PlatformOptions {
  readonly push?: true;
  readonly spanSize?: number;
  readonly minLayerSize?: number;
}

export function define(command: Command, context: CliContext): void {
  defineCreate(
    command.command('create').description('Index the layers of an image; the index is kept on this node.'),
    context,
  );
  defineLs(
    command.command('ls').description('List the indexes on this node, or those that a registry has for an image.'),
    context,
  );
  defineShow(command.command('show').description('Show which layers an index describes, and how.'), context);
  definePush(command.command('push').description("Push this node's index of an image, as a referrer of it."), context);
  defineRm(command.command('rm').description('Forget an index on this node; the copy in a registry stays.'), context);
}

function defineCreate(command: Command, context: CliContext): void {
  addPlatformOptions(command)
    .argument('<image>', imageArgument)
    .option('--push', 'push it as a referrer of the image, so that everybody mounts it lazily')
    .option(
      '--span-size <size>',
      'bytes of a layer that are fetched together: less is lazier, more makes a smaller index (default: 4MiB)',
      parseSpanSize,
    )
    .option('--min-layer-size <size>', 'leave out layers that are smaller (default: 10MiB)', parseSize)
    .action(async (reference: string, options: CreateOptions) => {
      checkReference(reference);
      const wish = {
        ...choice(context, options),
        spanSize: options.spanSize,
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

async function printCreated({ output }: CliContext, report: IndexReport): Promise<void> {
  const { platform, index, pushed, layers } = report;
  const made = index === undefined ? 'no layer gets an index' : `${index}${pushed ? ', pushed' : ''}`;
  await output.line(`${platform ?? report.image}: ${made}`);
  const columns = [{ title: 'LAYER' }, { title: 'SIZE', align: 'right' as const }, { title: 'INDEX' }];
  const rows = layers.map(({ layer, size, ztoc, skipped }) => [
    shortDigest(layer),
    humanBytes(size),
    ztoc === undefined ? `none: ${skipped ?? 'no reason given'}` : shortDigest(ztoc),
  ]);
  await output.table(columns, rows);
}

function defineLs(command: Command, context: CliContext): void {
  addPlatformOptions(command)
    .argument('[image]', 'ask its registry instead')
    .action(async (reference: string | undefined, options: PlatformOptions) => {
      if (reference !== undefined) checkReference(reference);
      const list = async ({ indexes }: Node) => {
        const local = indexes.list().map(({ image, digest, source }) => ({ image, index: digest, source }));
        const rows =
          reference === undefined
            ? local
            : (await indexes.listRemote(reference, choice(context, options))).map((row) => ({
                ...row,
                source: 'registry',
              }));
        if (context.options.json) await context.output.value(rows);
        else {
          const columns = [{ title: 'IMAGE' }, { title: 'INDEX' }, { title: 'FROM' }];
          await context.output.table(
            columns,
            rows.map((row) => [row.image, row.index ?? 'none', row.source]),
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
      const show = (node: Node) => node.indexes.show(checkTarget(target), choice(context, options));
      const report = await withNode(context, show, options);
      if (context.options.json) await context.output.value(report);
      else await printShown(context, report);
    });
  example(command, 'peel index show localhost:5000/app:1');
}

async function printShown({ output }: CliContext, report: IndexInfoReport): Promise<void> {
  await output.line(`Index:   ${report.index} (SOCI ${report.version}, ${report.source})`);
  await output.line(`Image:   ${report.image ?? 'not said'}`);
  await output.line(`Made by: ${report.buildTool ?? 'not said'}`);
  await output.line('');
  const right = { align: 'right' as const };
  const columns = [
    { title: 'LAYER' },
    { title: 'ZTOC' },
    { title: 'SIZE', ...right },
    { title: 'SPAN', ...right },
    { title: 'SPANS', ...right },
    { title: 'ENTRIES', ...right },
  ];
  const rows = report.layers.map(({ layer, ztoc, size, spanSize, spans, entries }) => [
    shortDigest(layer),
    shortDigest(ztoc),
    humanBytes(size),
    spanSize === undefined ? '?' : humanBytes(spanSize),
    String(spans ?? '?'),
    String(entries ?? '?'),
  ]);
  await output.table(columns, rows);
}

function definePush(command: Command, context: CliContext): void {
  addPlatformOptions(command)
    .argument('<image>', imageArgument)
    .action(async (reference: string, options: PlatformOptions) => {
      checkReference(reference);
      const push = (node: Node) => node.indexes.push(reference, choice(context, options));
      const pushed = await withNode(context, push, options);
      if (context.options.json) await context.output.value(pushed);
      else for (const { index, image } of pushed) await context.output.line(`pushed ${index} for ${image}`);
    });
  example(command, 'peel index push localhost:5000/app:1');
}

function defineRm(command: Command, context: CliContext): void {
  addPlatformOptions(command)
    .argument('<image-or-index>', 'an image reference, or the digest of an index')
    .action(async (target: string, options: PlatformOptions) => {
      const remove = (node: Node) => node.indexes.remove(checkTarget(target), choice(context, options));
      const removed = await withNode(context, remove, options);
      if (context.options.json) await context.output.value({ removed });
      else await context.output.lines(removed.map((digest) => `removed ${digest}`));
    });
  example(command, 'peel index rm localhost:5000/app:1');
}

function addPlatformOption(command: Command): Command {
  return addAccessOptions(command).option(
    '--platform <platform>',
    'os/architecture[/variant] to choose from an image index',
  );
}

function addPlatformOptions(command: Command): Command {
  return addPlatformOption(command).option('--all-platforms', 'every image of an image index');
}

function choice(context: CliContext, { platform, allPlatforms }: PlatformOptions) {
  if (platform !== undefined && allPlatforms) throw new UsageError('give --platform or --all-platforms, not both');
  return {
    platform: platform === undefined ? undefined : usage(() => parsePlatform(platform)),
    allPlatforms,
    signal: context.signal,
  };
}

function checkTarget(target: string): string {
  return isDigest(target) ? target : checkReference(target);
}
