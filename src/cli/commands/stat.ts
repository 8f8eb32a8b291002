import type { Command } from 'commander';
import type { Image } from '../../image/image.ts';
import type { TreeNode } from '../../tree/tree.ts';
import { type ByteString, displayBytes } from '../../util/byte-string.ts';
import { example } from '../command.ts';
import type { CliContext } from '../context.ts';
import { modeString, octalMode, typeNames } from '../file-mode.ts';
import { locate } from '../image-path.ts';
import { nodeJson, rfc3339 } from '../node-json.ts';
import { addImageOptions, imageArgument, type ImageOptions, withImage } from '../with-image.ts';

interface StatOptions extends ImageOptions {
  readonly dereference?: true;
}

export function define(command: Command, context: CliContext): void {
  addImageOptions(command)
    .argument('<image>', imageArgument)
    .argument('<path...>', 'paths of the image')
    .option('-L, --dereference', 'follow a symlink')
    .action(async (reference: string, paths: string[], options: StatOptions) => {
      await withImage(context, reference, options, async (image) => {
        const tree = await image.tree({ signal: context.signal });
        const found = paths.map((path) => locate(tree, path, { follow: options.dereference === true }));
        if (context.options.json) {
          await context.output.value(found.map(({ path, node }) => fullJson(image, path, node)));
          return;
        }
        for (const { path, node } of found) await context.output.lines(description(image, path, node));
      });
    });
  example(command, 'peel stat debian:12 /bin/sh');
}

function description(image: Image, path: ByteString, node: TreeNode): string[] {
  const name = displayBytes(path) + (node.type === 'symlink' ? ` -> ${displayBytes(node.link)}` : '');
  const lines = [
    `  File: ${name}`,
    `  Type: ${typeNames[node.type]}`,
    `  Size: ${node.size}`,
    ` Links: ${node.nlink}`,
    `  Mode: ${octalMode(node.mode)} ${modeString(node.type, node.mode)}`,
    ` Owner: ${node.uid}:${node.gid}`,
    `Modify: ${rfc3339(node.mtime, node.mtimeNs)}`,
  ];
  if (node.type === 'char' || node.type === 'block') lines.push(`Device: ${node.devMajor}, ${node.devMinor}`);
  for (const [attribute, value] of node.xattrs) lines.push(` Xattr: ${displayBytes(attribute)}=${shownValue(value)}`);
  for (const digest of layersOf(image, node)) lines.push(` Layer: ${digest}`);
  return lines;
}

function fullJson(image: Image, path: ByteString, node: TreeNode): Record<string, unknown> {
  const xattrs = [...node.xattrs].map(([name, value]) => [displayBytes(name), Buffer.from(value).toString('base64')]);
  return {
    ...nodeJson(path, node),
    xattrsBase64: Object.fromEntries(xattrs) as Record<string, string>,
    layers: layersOf(image, node),
    extents: node.extents,
  };
}

/** Digests of the layers that hold the file's bytes. */
function layersOf(image: Image, node: TreeNode): string[] {
  const positions = new Set(node.extents.map((extent) => extent.layer));
  return [...positions].map((layer) => image.manifest.layers[layer]?.digest ?? `layer ${layer}`);
}

function shownValue(value: Uint8Array): string {
  const text = Buffer.from(value).toString('latin1');
  return /^[\x20-\x7e]*$/.test(text) ? JSON.stringify(text) : `0x${Buffer.from(value).toString('hex')}`;
}
