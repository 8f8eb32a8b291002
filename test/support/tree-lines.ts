// A merged tree in memory, listed in the very form of list-tree.py: what a mount of it has to look like.
import { createHash } from 'node:crypto';
import type { Tree, TreeNode } from '../../src/tree/tree.ts';

/** `streams`: the layer streams that extents point into. */
export function treeLines(tree: Tree, streams: readonly Uint8Array[]): string[] {
  const found: { path: string; node: TreeNode }[] = [];
  const visit = (path: string, node: TreeNode): void => {
    found.push({ path, node });
    for (const [name, child] of node.children ?? []) visit(path === '.' ? name : `${path}/${name}`, child);
  };
  visit('.', tree.root);
  found.sort((a, b) => (a.path < b.path ? -1 : 1));
  const first = new Map<TreeNode, string>();
  for (const { path, node } of found) if (!first.has(node)) first.set(node, path);
  return found.map(({ path, node }) => line(path, node, first.get(node) ?? '', streams));
}

function line(path: string, node: TreeNode, group: string, streams: readonly Uint8Array[]): string {
  const device = node.type === 'char' || node.type === 'block';
  const sorted = [...node.xattrs].sort(([a], [b]) => (a < b ? -1 : 1));
  const xattrs = sorted.map(([name, value]) => `${escape(name)}=${Buffer.from(value).toString('hex')}`);
  return [
    escape(path),
    node.type,
    node.mode.toString(8).padStart(4, '0'),
    node.uid,
    node.gid,
    BigInt(node.mtime) * 1_000_000_000n + BigInt(node.mtimeNs),
    node.type === 'dir' ? '-' : node.size,
    node.nlink,
    escape(group),
    device ? `${node.devMajor}:${node.devMinor}` : '-',
    node.type === 'symlink' ? escape(node.link) : '-',
    xattrs.join(','),
    node.type === 'file' ? sha256(node, streams) : '-',
  ].join('\t');
}

function sha256(node: TreeNode, streams: readonly Uint8Array[]): string {
  const content = Buffer.alloc(node.size);
  for (const { layer, fileOffset, streamOffset, size } of node.extents) {
    content.set(streams[layer]?.subarray(streamOffset, streamOffset + size) ?? [], fileOffset);
  }
  return createHash('sha256').update(content).digest('hex');
}

function escape(bytes: string): string {
  return bytes.replace(/[^\x20-\x5b\x5d-\x7e]/g, (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`);
}
