import type { Command } from 'commander';
import type { TreeNode } from '../../tree/tree.ts';
import { type ByteString, displayBytes } from '../../util/byte-string.ts';
import { example } from '../command.ts';
import type { CliContext } from '../context.ts';
import { joinPath, locate } from '../image-path.ts';
import { nodeJson } from '../node-json.ts';
import { parseCount } from '../options.ts';
import { sortedChildren } from '../walk.ts';
import { addImageOptions, imageArgument, type ImageOptions, withImage } from '../with-image.ts';

interface TreeOptions extends ImageOptions {
  readonly level?: number;
}

export function define(command: Command, context: CliContext): void {
  addImageOptions(command)
    .argument('<image>', imageArgument)
    .argument('[path]', 'directory of the image', '/')
    .option('-L, --level <depth>', 'go down this many directories only', parseCount)
    .action(async (reference: string, path: string, options: TreeOptions) => {
      await withImage(context, reference, options, async (image) => {
        const tree = await image.tree({ signal: context.signal });
        const start = locate(tree, path, { follow: true });
        const depth = options.level ?? Number.POSITIVE_INFINITY;
        if (context.options.json) await context.output.value(nested(start.path, start.node, depth));
        else await draw(context, start.path, start.node, depth);
      });
    });
  example(command, 'peel tree -L 2 debian:12 /usr');
}

async function draw({ output }: CliContext, path: ByteString, start: TreeNode, depth: number): Promise<void> {
  const counts = { dirs: 0, files: 0 };
  const below = async (node: TreeNode, indent: string, left: number): Promise<void> => {
    if (left === 0) return;
    const children = sortedChildren(node);
    for (const [index, [name, child]] of children.entries()) {
      const last = index === children.length - 1;
      const target = child.type === 'symlink' ? ` -> ${displayBytes(child.link)}` : '';
      await output.line(`${indent}${last ? '└── ' : '├── '}${displayBytes(name)}${target}`);
      if (child.children) {
        counts.dirs += 1;
        await below(child, indent + (last ? '    ' : '│   '), left - 1);
      } else counts.files += 1;
    }
  };
  await output.line(displayBytes(path));
  await below(start, '', depth);
  await output.line('');
  await output.line(`${plural(counts.dirs, 'directory', 'directories')}, ${plural(counts.files, 'file', 'files')}`);
}

function nested(path: ByteString, node: TreeNode, depth: number): Record<string, unknown> {
  if (!node.children || depth === 0) return nodeJson(path, node);
  const children = sortedChildren(node).map(([name, child]) => nested(joinPath(path, name), child, depth - 1));
  return { ...nodeJson(path, node), children };
}

function plural(count: number, one: string, many: string): string {
  return `${count} ${count === 1 ? one : many}`;
}
