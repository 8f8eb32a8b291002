import type { Command } from 'commander';
import type { TreeNode } from '../../tree/tree.ts';
import { type ByteString, displayBytes } from '../../util/byte-string.ts';
import { example } from '../command.ts';
import type { CliContext } from '../context.ts';
import { modeString } from '../file-mode.ts';
import { localMinute } from '../human.ts';
import { joinPath, type Located, locate } from '../image-path.ts';
import { nodeJson } from '../node-json.ts';
import { alignedLines } from '../table.ts';
import { sortedChildren } from '../walk.ts';
import { addImageOptions, imageArgument, type ImageOptions, withImage } from '../with-image.ts';

interface LsOptions extends ImageOptions {
  readonly long?: true;
  readonly recursive?: true;
}

/** One heading and what stands under it; the files named on the command line have no heading. */
interface Listing {
  readonly dir: ByteString | undefined;
  readonly rows: readonly { name: ByteString; path: ByteString; node: TreeNode }[];
}

export function define(command: Command, context: CliContext): void {
  addImageOptions(command)
    .argument('<image>', imageArgument)
    .argument('[path...]', 'directories or files of the image (default: /)')
    .option('-l, --long', 'mode, links, numeric owner, size and time as `ls -ln` prints them')
    .option('-R, --recursive', 'directories below as well')
    .action(async (reference: string, paths: string[], options: LsOptions) => {
      await withImage(context, reference, options, async (image) => {
        const tree = await image.tree({ signal: context.signal });
        const found = (paths.length > 0 ? paths : ['/']).map((path) => locate(tree, path, { follow: !options.long }));
        await print(context, options, [...listings(found, options.recursive === true)]);
      });
    });
  example(command, 'peel ls -l debian:12 /etc/apt');
}

function* listings(found: readonly Located[], recursive: boolean): Generator<Listing> {
  const files = found.filter(({ node }) => !node.children);
  if (files.length > 0) {
    yield { dir: undefined, rows: files.map(({ path, node }) => ({ name: path, path, node })) };
  }
  for (const { path, node } of found) if (node.children) yield* directoryListings(path, node, recursive);
}

function* directoryListings(dir: ByteString, node: TreeNode, recursive: boolean): Generator<Listing> {
  const rows = sortedChildren(node).map(([name, child]) => ({ name, path: joinPath(dir, name), node: child }));
  yield { dir, rows };
  if (!recursive) return;
  for (const row of rows) if (row.node.children) yield* directoryListings(row.path, row.node, true);
}

async function print({ options: { json }, output }: CliContext, options: LsOptions, all: Listing[]): Promise<void> {
  if (json) {
    await output.value(all.flatMap(({ rows }) => rows.map(({ path, node }) => nodeJson(path, node))));
    return;
  }
  const headings = all.length > 1;
  for (const [index, { dir, rows }] of all.entries()) {
    if (index > 0) await output.line('');
    if (headings && dir !== undefined) await output.line(`${displayBytes(dir)}:`);
    if (options.long) await output.lines(longLines(rows));
    else for (const { name } of rows) await output.line(displayBytes(name));
  }
}

function longLines(rows: Listing['rows']): string[] {
  const cells = rows.map(({ name, node }) => [
    modeString(node.type, node.mode) + (node.xattrs.has('system.posix_acl_access' as ByteString) ? '+' : ''),
    String(node.nlink),
    String(node.uid),
    String(node.gid),
    node.type === 'char' || node.type === 'block' ? `${node.devMajor}, ${node.devMinor}` : String(node.size),
    localMinute(node.mtime),
    displayBytes(name) + (node.type === 'symlink' ? ` -> ${displayBytes(node.link)}` : ''),
  ]);
  return alignedLines(cells, ['left', 'right', 'right', 'right', 'right', 'left', 'left']);
}
