import type { Command } from 'commander';
import type { CacheRemoval } from '../../image/cache-service.ts';
import { configuredLimit } from '../../config/cache-bounds.ts';
import { statFs } from '../../native/sys.ts';
import { cacheLines } from '../cache-text.ts';
import { cacheSettings } from '../cache-settings.ts';
import { example } from '../command.ts';
import type { CliContext } from '../context.ts';
import { UsageError } from '../errors.ts';
import { humanBytes, localMinute, percent, shortDigest } from '../human.ts';
import { parseSize } from '../options.ts';
import { withNode } from '../with-node.ts';

export function define(command: Command, context: CliContext): void {
  command
    .description('Without a command: how full the cache is, what it may take, and what of it cannot go.')
    .action(async () => await show(context));
  defineLs(command.command('ls').description('List the layers in the cache, least recently used first.'), context);
  defineRm(command.command('rm').description('Remove layers by digest, or by the beginning of one.'), context);
  definePrune(
    command.command('prune').description('Remove layers, least recently used first, until the cache is small enough.'),
    context,
  );
}

async function show(context: CliContext): Promise<void> {
  const settings = await cacheSettings(context);
  const report = await withNode(context, (node) => node.cacheReport(settings));
  if (context.options.json) await context.output.value(report);
  else await context.output.lines(cacheLines(report));
}

function defineLs(command: Command, context: CliContext): void {
  command.action(async () => {
    const entries = await withNode(context, (node) => node.cacheEntries());
    if (context.options.json) {
      await context.output.value(entries);
      return;
    }
    const columns = [
      { title: 'LAYER' },
      { title: 'ON DISK', align: 'right' as const },
      { title: 'OF', align: 'right' as const },
      { title: '', align: 'right' as const },
      { title: 'COMPRESSED', align: 'right' as const },
      { title: 'INDEX' },
      { title: 'USED' },
      { title: 'MOUNTED ON' },
    ];
    const rows = entries.map(
      ({ digest, diskBytes, compressedBytes, streamSize, index, usedAt, mountedOn, kept, suspect }) => [
        shortDigest(digest),
        humanBytes(diskBytes),
        streamSize === undefined ? '?' : humanBytes(streamSize),
        streamSize === undefined ? '' : percent(Math.min(diskBytes, streamSize), streamSize),
        compressedBytes === 0 ? '' : humanBytes(compressedBytes),
        suspect === undefined ? (index ?? 'none') : `suspect: ${suspect}`,
        usedAt === 0 ? 'never' : localMinute(usedAt / 1000),
        mountedOn.join(' ') || (kept ? 'snapshots of containerd' : ''),
      ],
    );
    await context.output.table(columns, rows);
  });
  example(command, 'peel cache ls');
}

function defineRm(command: Command, context: CliContext): void {
  command
    .argument('[digest...]', 'layers to remove')
    .option('--all', 'every layer that nobody uses')
    .action(async (digests: string[], options: { all?: true }) => {
      if (options.all ? digests.length > 0 : digests.length === 0) throw new UsageError('give digests or --all');
      await say(context, await withNode(context, (node) => node.removeCached(options.all ? 'all' : digests)));
    });
  example(command, 'peel cache rm --all');
}

function definePrune(command: Command, context: CliContext): void {
  command
    .option('--max-size <size>', 'what may stay, e.g. 20GiB (default: `cache.limit` of the configuration)', parseSize)
    .action(async (options: { maxSize?: number }) => {
      const { limit: usual } = await cacheSettings(context);
      const removal = await withNode(context, (node) => {
        const limit = options.maxSize ?? configuredLimit(usual, statFs(node.paths.root).totalBytes);
        return node.pruneCache(limit);
      });
      await say(context, removal);
    });
  example(command, 'peel cache prune --max-size 20GiB');
}

async function say({ options: { json }, output }: CliContext, removal: CacheRemoval): Promise<void> {
  if (json) {
    await output.value(removal);
    return;
  }
  const { removed, busy, freedBytes } = removal;
  const inUse = busy.length > 0 ? `, ${busy.length} in use and kept` : '';
  await output.line(
    `removed ${removed.length} ${removed.length === 1 ? 'layer' : 'layers'}, ${humanBytes(freedBytes)}${inUse}`,
  );
}
