import type { Command } from 'commander';
import type { TreeNode } from '../../tree/tree.ts';
import { type ByteString, displayBytes } from '../../util/byte-string.ts';
import { example } from '../command.ts';
import type { CliContext } from '../context.ts';
import { humanBytes } from '../human.ts';
import { joinPath, jsonPath, locate } from '../image-path.ts';
import { parseCount } from '../options.ts';
import { sortedChildren } from '../walk.ts';
import { addImageOptions, imageArgument, type ImageOptions, withImage } from '../with-image.ts';

interface DuOptions extends ImageOptions {
  readonly all?: true;
  readonly bytes?: true;
  readonly human?: true;
  readonly summarize?: true;
  readonly maxDepth?: number;
}

interface Sum {
  readonly path: ByteString;
  readonly depth: number;
  readonly isDir: boolean;
  readonly bytes: number;
}

export function define(command: Command, context: CliContext): void {
  addImageOptions(command)
    .argument('<image>', imageArgument)
    .argument('[path...]', 'directories or files of the image (default: /)')
    .option('-a, --all', 'files as well')
    .option('-b, --bytes', 'in bytes, holes of sparse files counted')
    .option('-h, --human', 'in KiB, MiB and GiB')
    .option('-s, --summarize', 'only the total')
    .option('-d, --max-depth <depth>', 'go down this many directories only', parseCount)
    .helpOption('--help', 'display help for command')
    .action(async (reference: string, paths: string[], options: DuOptions) => {
      await withImage(context, reference, options, async (image) => {
        const tree = await image.tree({ signal: context.signal });
        const starts = (paths.length > 0 ? paths : ['/']).map((path) => locate(tree, path, { follow: false }));
        const sums: Sum[] = [];
        const seen = new Set<TreeNode>();
        for (const { path, node } of starts) collect(path, node, 0, { sums, seen, apparent: options.bytes === true });
        const depth = options.summarize ? 0 : (options.maxDepth ?? Number.POSITIVE_INFINITY);
        const shown = sums.filter((sum) => sum.depth <= depth && (sum.isDir || options.all || sum.depth === 0));
        await print(context, options, shown);
      });
    });
  example(command, 'peel du -h -d 1 debian:12 /usr');
}

/** Adds the sums below, children first as du prints them. A file with several names counts once, at the first of them. */
function collect(
  path: ByteString,
  node: TreeNode,
  depth: number,
  walk: { sums: Sum[]; seen: Set<TreeNode>; apparent: boolean },
): number {
  let bytes = 0;
  if (node.children) {
    for (const [name, child] of sortedChildren(node)) bytes += collect(joinPath(path, name), child, depth + 1, walk);
  } else if (!walk.seen.has(node)) {
    if (node.nlink > 1) walk.seen.add(node);
    bytes = walk.apparent ? node.size : node.extents.reduce((sum, extent) => sum + extent.size, 0);
  }
  walk.sums.push({ path, depth, isDir: node.children !== undefined, bytes });
  return bytes;
}

async function print(
  { options: { json }, output }: CliContext,
  options: DuOptions,
  sums: readonly Sum[],
): Promise<void> {
  if (json) {
    await output.value(sums.map(({ path, bytes }) => ({ ...jsonPath(path), bytes })));
    return;
  }
  for (const { path, bytes } of sums) {
    const shown = options.human ? humanBytes(bytes) : String(options.bytes ? bytes : Math.ceil(bytes / 1024));
    await output.line(`${shown}\t${displayBytes(path)}`);
  }
}
