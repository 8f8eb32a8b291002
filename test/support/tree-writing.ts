// A TreeWriter of a new directory whose stream 0 is a file, and short ways to write its operations.
import { closeSync, mkdirSync, openSync, writeSync } from 'node:fs';
import path from 'node:path';
import { onTestFinished } from 'vitest';
import type { NodeAttributes, TreeOp } from '../../src/native/tree-ops.ts';
import { TreeWriter } from '../../src/native/tree-writer.ts';
import { tempDir } from './tmp.ts';

export interface TreeWriting {
  /** The folder that holds `tree`, the writer's directory. */
  readonly place: string;
  readonly dir: string;
  readonly writer: TreeWriter;
  /** Of stream 0. */
  readonly dataFd: number;
  /** The path of something in the tree. */
  readonly at: (name: string) => string;
  /** Resolves when the operations are done. */
  readonly run: (...ops: TreeOp[]) => Promise<void>;
}

export const attributes = (part: Partial<NodeAttributes> = {}): NodeAttributes => ({
  mode: 0o644,
  uid: 0,
  gid: 0,
  mtime: 1_000_000_000,
  mtimeNs: 0,
  xattrs: new Map(),
  ...part,
});

export const file = (name: string, part: Partial<Extract<TreeOp, { op: 'file' }>> = {}): TreeOp => ({
  op: 'file',
  path: name,
  attributes: attributes(),
  size: 0,
  stream: 0,
  extents: [],
  ...part,
});

/** A file of the stream bytes [from, from + size). */
export const fileOf = (name: string, from: number, size: number): TreeOp =>
  file(name, { size, extents: [{ fileOffset: 0, streamOffset: from, size }] });

/** All of `data` is there at once. Closed and removed when the test ends. */
export function treeWriting(
  data: Buffer = Buffer.alloc(0),
  options: { place?: string; dataPlace?: string; ownership?: 'entries' | 'mine' } = {},
): TreeWriting {
  const place = options.place ?? tempDir();
  const dir = path.join(place, 'tree');
  mkdirSync(dir);
  const dataFd = openSync(path.join(options.dataPlace ?? place, 'data'), 'w+');
  if (data.length > 0) writeSync(dataFd, data);
  const writer = TreeWriter.open(dir, { ownership: options.ownership ?? 'entries' });
  onTestFinished(async () => {
    await writer.close();
    closeSync(dataFd);
  });
  writer.addStream(0, dataFd);
  writer.advance(0, data.length);
  return {
    place,
    dir,
    writer,
    dataFd,
    at: (name) => path.join(dir, name),
    run: async (...ops) => {
      writer.submit(ops);
      await writer.finish({ signal: new AbortController().signal });
    },
  };
}
