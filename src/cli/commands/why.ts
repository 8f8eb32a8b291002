import { realpath } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { type Command, Option } from 'commander';
import type { Node } from '../../daemon/node.ts';
import { formatReference, parseReference } from '../../oci/reference.ts';
import type { StartRow } from '../../state/starts.ts';
import { example } from '../command.ts';
import type { CliContext } from '../context.ts';
import { CommandError } from '../errors.ts';
import { localMinute, printable, shortDigest } from '../human.ts';
import { whyLines } from '../why-text.ts';
import { withNode } from '../with-node.ts';

interface WhyCommandOptions {
  readonly all?: true;
  readonly sort: 'time' | 'wait';
}

/** Reads that a screen holds. */
const fewReads = 20;

export function define(command: Command, context: CliContext): void {
  command
    .description(
      'Every read that had to wait during the last start: when, for how long, for what, and what would have avoided it. Without an argument: the starts that are known.',
    )
    .argument('[dir|image]', 'where an image is or was mounted, or its reference')
    .option('--all', `every read that waited, not only the ${fewReads} that waited longest`)
    .addOption(
      new Option('--sort <order>', 'by time, or the longest wait first').choices(['time', 'wait']).default('time'),
    )
    .action(async (what: string | undefined, options: WhyCommandOptions) => {
      await withNode(context, async (node) => {
        if (what === undefined) await list(context, node);
        else await explain(context, node, what, options);
      });
    });
  example(command, 'peel why /mnt');
}

async function explain(
  { output, options: { json } }: CliContext,
  node: Node,
  what: string,
  options: WhyCommandOptions,
) {
  const row = await find(node, what);
  if (row === undefined) {
    const { root } = node.paths;
    throw new CommandError(`no start of ${what} is known in ${root}`, { code: 'ERR_START_UNKNOWN' });
  }
  const { explainStart } = await import('../../image/explain-start.ts');
  const report = await explainStart(row, (layer) => node.imageDeps.layers.paths(layer));
  if (report === undefined)
    throw new CommandError(`the last start of ${what} was written down by another version of peel`, {
      code: 'ERR_START_VERSION',
    });
  if (json) {
    await output.value(report);
    return;
  }
  const most = options.all ? Number.POSITIVE_INFINITY : fewReads;
  const columns = process.stdout.isTTY ? process.stdout.columns : undefined;
  await output.lines(whyLines(report, { sort: options.sort, most, columns }));
}

async function list({ output, options: { json } }: CliContext, node: Node): Promise<void> {
  const starts = node.state.starts.list();
  if (json) {
    await output.value(starts);
    return;
  }
  if (starts.length === 0) {
    await output.line('no start is known');
    return;
  }
  await output.table(
    [{ title: 'STARTED' }, { title: 'IMAGE' }, { title: 'DIGEST' }, { title: 'ON' }],
    starts.map(({ startedAt, reference, image, dir }) => [
      localMinute(startedAt / 1000),
      printable(reference),
      shortDigest(image),
      dir === undefined ? 'containerd' : printable(dir),
    ]),
  );
}

/** A directory goes before an image of that name. */
async function find(node: Node, what: string): Promise<StartRow | undefined> {
  const { starts } = node.state;
  const dir = resolve(what);
  const found = starts.last({ dir }) ?? starts.last({ dir: await withRealParent(dir) });
  if (found !== undefined || /^\.{0,2}(\/|$)/.test(what)) return found;
  const reference = parseReference(what);
  const byName = starts.last({ reference: formatReference(reference) });
  const digest = reference.kind === 'registry' ? reference.digest : undefined;
  return byName ?? (digest === undefined ? undefined : starts.last({ image: digest }));
}

/** The way mounts are spelled; the directory itself is not looked at, as its server may be dead. */
async function withRealParent(dir: string): Promise<string> {
  const parent = await realpath(dirname(dir)).catch(() => dirname(dir));
  return join(parent, basename(dir));
}
