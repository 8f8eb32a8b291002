// What TreeOps do to a directory, in memory and by the letter: the tree that is there after them.
import type { NodeAttributes, TreeOp } from '../../src/native/tree-ops.ts';
import { countLinks } from '../../src/tree/merge.ts';
import { type DirectoryNode, isDirectory, newDirectory, newNode } from '../../src/tree/node.ts';
import type { Tree, TreeNode } from '../../src/tree/tree.ts';
import type { ByteString } from '../../src/util/byte-string.ts';

export class OpDirectory {
  readonly #root = newDirectory();
  readonly #described = new Set<TreeNode>();
  /** How many operations there were. */
  count = 0;

  /** Errors: when a real directory would refuse the operation, or when it would spoil what an earlier one did. */
  submit(ops: readonly TreeOp[]): void {
    for (const op of ops) this.#do(op);
    this.count += ops.length;
  }

  /** Extents name the stream in place of a layer. Errors: when a directory has no attributes yet. */
  tree(): Tree {
    const todo: TreeNode[] = [this.#root];
    for (let node = todo.pop(); node !== undefined; node = todo.pop()) {
      if (!isDirectory(node)) continue;
      if (!this.#described.has(node)) throw new Error('a directory was not described');
      todo.push(...node.children.values());
    }
    countLinks(this.#root);
    return { root: this.#root, layers: 1 };
  }

  #do(op: TreeOp): void {
    const fail = (why: string): Error => new Error(`${op.op} ${op.path}: ${why}`);
    if (op.op === 'describe') {
      const node = op.path === '' ? this.#root : this.#at(op.path)?.node;
      if (node === undefined || !isDirectory(node)) throw fail('not a directory');
      Object.assign(node, taken(op.attributes));
      this.#described.add(node);
      return;
    }
    const place = this.#at(op.path);
    if (place === undefined) throw fail('no such parent');
    const { parent, name, node } = place;
    if (this.#described.has(parent)) throw fail('changes the time of a directory that was described');
    if (op.op === 'remove') {
      if (node === undefined) throw fail('ENOENT');
      parent.children.delete(name);
      return;
    }
    if (node !== undefined) throw fail('EEXIST');
    if (op.op !== 'link') {
      parent.children.set(name, made(op));
      return;
    }
    const existing = this.#at(op.existing)?.node;
    if (existing === undefined || isDirectory(existing)) throw fail(`cannot link to ${op.existing}`);
    parent.children.set(name, existing);
  }

  #at(path: string): { parent: DirectoryNode; name: ByteString; node: TreeNode | undefined } | undefined {
    const names = path.split('/') as ByteString[];
    const name = names.pop() as ByteString;
    let parent = this.#root;
    for (const step of names) {
      const next = parent.children.get(step);
      if (next === undefined || !isDirectory(next)) return undefined;
      parent = next;
    }
    if (['', '.', '..'].includes(name)) return undefined;
    return { parent, name, node: parent.children.get(name) };
  }
}

type Making = Exclude<TreeOp, { op: 'describe' | 'remove' | 'link' }>;

function made(op: Making): TreeNode {
  if (op.op === 'mkdir') return Object.assign(newDirectory(), { mode: 0o700 });
  const node = newNode(op.op === 'node' ? op.kind : op.op, 0);
  Object.assign(node, taken(op.attributes));
  if (op.op === 'symlink') Object.assign(node, { link: op.target, size: op.target.length });
  if (op.op === 'node') Object.assign(node, { devMajor: op.major, devMinor: op.minor });
  if (op.op !== 'file') return node;
  node.size = op.size;
  node.extents = op.extents.map(({ fileOffset, streamOffset, size }) => ({
    layer: op.stream,
    fileOffset,
    streamOffset,
    size,
  }));
  return node;
}

function taken({ xattrs, ...rest }: NodeAttributes): Partial<TreeNode> {
  return { ...rest, xattrs: new Map([...xattrs].map(([name, value]) => [name as ByteString, value])) };
}
