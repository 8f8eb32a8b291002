import { randomBytes } from 'node:crypto';
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { ChunkWriter } from '../../src/unpack/chunk-writer.ts';
import { tempDir } from '../support/tmp.ts';

const start = 1_000;

async function rig(size: number, flags = 'w+') {
  const path = join(tempDir(), 'blob');
  await (await open(path, 'w')).close();
  const file = await open(path, flags);
  onTestFinished(() => file.close());
  let written = 0;
  const onWritten = (bytes: number) => (written += bytes);
  const writer = new ChunkWriter({ file, path, start, end: start + size, onWritten });
  return { writer, path, written: () => written };
}

describe('ChunkWriter', () => {
  it('writes what comes in order', async () => {
    const bytes = randomBytes(500_000);
    const { writer, path, written } = await rig(bytes.length);
    for (let at = 0; at < bytes.length; at += 70_001) void writer.push(bytes.subarray(at, at + 70_001));
    await writer.flushed();
    expect((await readFile(path)).subarray(start).equals(bytes)).toBe(true);
    expect([writer.received, writer.written, written()]).toEqual([start + 500_000, start + 500_000, 500_000]);
  });

  it('has what is not in the file yet', async () => {
    const bytes = randomBytes(300);
    const { writer } = await rig(bytes.length);
    for (let at = 0; at < 200; at += 100) void writer.push(bytes.subarray(at, at + 100));
    expect(writer.unwritten(start - 1)).toBeUndefined();
    expect(writer.unwritten(start + 50)).toEqual(bytes.subarray(50, 100));
    expect(writer.unwritten(start + 100)).toEqual(bytes.subarray(100, 200));
    expect(writer.unwritten(start + 200)).toBeUndefined();
    await writer.flushed();
    expect(writer.unwritten(start + 50)).toBeUndefined();
  });

  it.each([
    ['bytes', 300_000, 4],
    ['pieces', 1, 257],
  ])('asks to be left alone while too many %s wait', async (_what, length, pushes) => {
    const { writer } = await rig(3_000_000);
    const pauses = Array.from({ length: pushes }, () => writer.push(Buffer.alloc(length)));
    expect(pauses.slice(0, -1).every((pause) => pause === undefined)).toBe(true);
    await pauses.at(-1);
    expect(writer.written).toBeGreaterThan(start);
    await writer.flushed();
    expect(writer.push(Buffer.alloc(1))).toBeUndefined();
    await writer.flushed();
  });

  it('takes no byte after its end', async () => {
    const { writer } = await rig(10);
    expect(() => writer.push(Buffer.alloc(11))).toThrow(expect.objectContaining({ code: 'RESPONSE_INVALID' }));
    void writer.push(Buffer.alloc(10));
    expect(() => writer.push(Buffer.alloc(1))).toThrow(expect.objectContaining({ code: 'RESPONSE_INVALID' }));
    await writer.flushed();
  });

  it('fails with the disk, for who waits and for who comes after', async () => {
    const { writer } = await rig(3_000_000, 'r');
    const pause = writer.push(Buffer.alloc(2_000_000));
    await expect(pause).rejects.toMatchObject({ code: 'ERR_UNPACK_DISK' });
    expect(() => writer.push(Buffer.alloc(1))).toThrow(expect.objectContaining({ code: 'ERR_UNPACK_DISK' }));
    await expect(writer.flushed()).rejects.toMatchObject({ code: 'ERR_UNPACK_DISK' });
  });
});
