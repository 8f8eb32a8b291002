import { execFileSync } from 'node:child_process';
import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import * as sys from '../../src/native/sys.ts';
import type { NodeAttributes, TreeOp } from '../../src/native/tree-ops.ts';
import { TreeWriter } from '../../src/native/tree-writer.ts';
import { tempDir } from '../support/tmp.ts';

const code = (name: string) => expect.objectContaining({ code: name });
const signal = new AbortController().signal;

const attributes = (part: Partial<NodeAttributes> = {}): NodeAttributes => ({
  mode: 0o644,
  uid: 0,
  gid: 0,
  mtime: 1_000_000_000,
  mtimeNs: 0,
  xattrs: new Map(),
  ...part,
});

const file = (name: string, part: Partial<Extract<TreeOp, { op: 'file' }>> = {}): TreeOp => ({
  op: 'file',
  path: name,
  attributes: attributes(),
  size: 0,
  stream: 0,
  extents: [],
  ...part,
});

interface World {
  readonly dir: string;
  readonly writer: TreeWriter;
  readonly dataFd: number;
  at(name: string): string;
}

/** A writer of a new directory whose stream 0 is a file beside it. */
function open(data: string | Buffer = '', options: { place?: string; ownership?: 'entries' | 'mine' } = {}): World {
  const place = options.place ?? tempDir();
  const dir = path.join(place, 'tree');
  mkdirSync(dir);
  const dataFd = openSync(path.join(place, 'data'), 'w+');
  if (data.length > 0) writeSync(dataFd, data as Buffer);
  const writer = TreeWriter.open(dir, { ownership: options.ownership ?? 'entries' });
  onTestFinished(async () => {
    await writer.close();
    closeSync(dataFd);
  });
  writer.addStream(0, dataFd);
  writer.advance(0, data.length);
  return { dir, writer, dataFd, at: (name) => path.join(dir, name) };
}

async function run(world: World, ...ops: TreeOp[]): Promise<void> {
  world.writer.submit(ops);
  await world.writer.finish({ signal });
}

describe('TreeWriter', () => {
  it('makes what every operation says', async () => {
    const world = open('some data of a file');
    const { at } = world;
    await run(
      world,
      { op: 'mkdir', path: 'a' },
      { op: 'mkdir', path: 'a/b' },
      file('a/b/f', {
        size: 9,
        extents: [{ fileOffset: 0, streamOffset: 5, size: 9 }],
        attributes: attributes({ mode: 0o4751, uid: 12, gid: 34, mtime: -5, mtimeNs: 999_999_999 }),
      }),
      file('empty'),
      { op: 'symlink', path: 'a/l', target: '../../../etc/passwd', attributes: attributes({ uid: 7, gid: 8 }) },
      { op: 'node', path: 'null', kind: 'char', major: 1, minor: 3, attributes: attributes({ mode: 0o666, uid: 9 }) },
      { op: 'node', path: 'disk', kind: 'block', major: 259, minor: 70_000, attributes: attributes({ mode: 0o1660 }) },
      { op: 'node', path: 'fifo', kind: 'fifo', major: 0, minor: 0, attributes: attributes({ mode: 0o622 }) },
      { op: 'link', path: 'hard', existing: 'a/b/f' },
      { op: 'link', path: 'hardlink', existing: 'a/l' },
      { op: 'describe', path: 'a/b', attributes: attributes({ mode: 0o2750, uid: 3, gid: 4, mtime: 77, mtimeNs: 5 }) },
      { op: 'describe', path: '', attributes: attributes({ mode: 0o1777 }) },
    );
    expect(readFileSync(at('a/b/f'), 'latin1')).toBe('data of a');
    const f = lstatSync(at('a/b/f'), { bigint: true });
    expect([f.mode, f.uid, f.gid, f.mtimeNs, f.nlink]).toEqual([0o104751n, 12n, 34n, -4_000_000_001n, 2n]);
    expect(lstatSync(at('hard'), { bigint: true }).ino).toBe(f.ino);
    expect(lstatSync(at('empty')).size).toBe(0);
    expect(readlinkSync(at('a/l'))).toBe('../../../etc/passwd');
    const l = lstatSync(at('a/l'));
    expect([l.uid, l.gid, l.mtimeMs, l.nlink]).toEqual([7, 8, 1e12, 2]);
    const devices = execFileSync('stat', ['-c', '%F %t:%T %a %u', at('null'), at('disk'), at('fifo')], {
      encoding: 'utf8',
    });
    expect(devices.split('\n')).toEqual([
      'character special file 1:3 666 9',
      'block special file 103:11170 1660 0',
      'fifo 0:0 622 0',
      '',
    ]);
    const b = lstatSync(at('a/b'), { bigint: true });
    expect([b.mode, b.uid, b.gid, b.mtimeNs]).toEqual([0o42750n, 3n, 4n, 77_000_000_005n]);
    expect(lstatSync(at('a')).mode).toBe(0o40700);
    expect(lstatSync(world.dir).mode).toBe(0o41777);
    expect(world.writer.progress).toEqual({ ops: 12, streamBytes: 9 });
    expect(world.writer.skipped).toEqual({ devices: 0, xattrs: 0 });
  });
});
