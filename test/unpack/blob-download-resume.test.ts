// What an earlier process has brought is kept, as far as it is as it was.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  closeSync,
  openSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Semaphore } from '../../src/util/semaphore.ts';
import { answer, everything, heldBack, ignoreRange } from '../support/faults.ts';
import { bytesOf, chunkSize, downloadWorld, rangesOf } from '../support/download-world.ts';
import type { DownloadWorld } from '../support/download-world.ts';
import { rounds } from '../support/fixtures.ts';
import { canMount } from '../support/erofs-mount.ts';
import { mountPoint } from '../support/mounted.ts';
import { openFilesBelow } from '../support/proxy-stack.ts';
import { content } from '../support/registry-content.ts';

const size = 3_000_000;
const blob = content(size);
const count = Math.ceil(size / chunkSize);
const never = new AbortController().signal;
const worker = new URL('../fixtures/download-worker.mjs', import.meta.url).pathname;

const rangeOf = (index: number) => `${index * chunkSize}-${Math.min((index + 1) * chunkSize, size) - 1}`;

function overwrite(path: string, at: number, text: string): void {
  const fd = openSync(path, 'r+');
  writeSync(fd, text, at);
  closeSync(fd);
}

/** Downloads all chunks but those from number `left` on, and forgets what was asked. */
async function downloadUpTo(world: DownloadWorld, left: number): Promise<void> {
  const stop = world.front.interfere(
    ({ headers }) => Number(/(\d+)-/.exec(headers.range ?? '')?.[1] ?? 0) >= left * chunkSize,
    answer(404),
  );
  const download = await world.open({ acquire: ({ signal }) => one.acquire(1, { signal }) });
  await bytesOf(download.stream({ signal: never })).catch(() => {});
  await download.close();
  stop();
  world.front.forget();
}

const one = new Semaphore(1);

/** Opens it again and reads it to the end. Returns the ranges that were asked for, by number. */
async function finish(world: DownloadWorld, changes: { chunkSize?: number } = {}): Promise<string[]> {
  const download = await world.open(changes);
  const bytes = await bytesOf(download.stream({ signal: never }));
  expect(bytes.equals(blob.bytes)).toBe(true);
  expect(readFileSync(download.path).equals(blob.bytes)).toBe(true);
  await download.close();
  expect(openFilesBelow(world.folder)).toEqual([]);
  return rangesOf(world.front);
}

const from = (first: number) => Array.from({ length: count - first }, (_, i) => rangeOf(first + i));

describe('a download that is resumed', () => {
  it('asks for what is not there, in the chunks it was begun with', async () => {
    const world = await downloadWorld(blob);
    await downloadUpTo(world, 5);
    expect(await finish(world, { chunkSize: 1 << 20 })).toEqual(from(5));
    world.front.forget();
    expect(await finish(world)).toEqual([]);
  });

  it('says what is there already', async () => {
    const world = await downloadWorld(blob);
    await downloadUpTo(world, 5);
    const progress: number[] = [];
    const download = await world.open({ onProgress: (done) => progress.push(done) });
    await bytesOf(download.stream({ signal: never }));
    expect([progress[0], progress.at(-1)]).toEqual([5 * chunkSize, size]);
  });

  it('asks again for a chunk that is damaged', async () => {
    const world = await downloadWorld(blob);
    await downloadUpTo(world, count);
    overwrite(join(world.folder, 'blob'), 3 * chunkSize + 70_000, 'damage');
    expect(await finish(world)).toEqual([rangeOf(3)]);
    world.front.forget();
    expect(await finish(world)).toEqual([]);
  });

  it('asks again for what was cut off, and for all of it when the file is gone', async () => {
    const world = await downloadWorld(blob);
    await downloadUpTo(world, count);
    truncateSync(join(world.folder, 'blob'), 9 * chunkSize + 5);
    expect(await finish(world)).toEqual(from(9));
    rmSync(join(world.folder, 'blob'));
    world.front.forget();
    expect(await finish(world)).toEqual(from(0));
  });

  it('passes over a record that was torn, or is nonsense, and records what follows', async () => {
    const world = await downloadWorld(blob);
    await downloadUpTo(world, 6);
    const record = join(world.folder, 'chunks');
    const text = readFileSync(record, 'latin1');
    truncateSync(record, text.length - 30);
    expect(await finish(world)).toEqual(from(5));
    appendFileSync(record, `nonsense\n999999999 ${'0'.repeat(64)}\n-1 x\n7 12`);
    world.front.forget();
    expect(await finish(world)).toEqual([]);
  });

  it('begins anew when the record is that of another blob, or no record', async () => {
    for (const text of ['', 'peel-chunks 2 x\n', `peel-chunks 1 sha256:${'0'.repeat(64)} ${size} ${chunkSize}\n`]) {
      const world = await downloadWorld(blob);
      appendFileSync(join(world.folder, 'chunks'), text);
      expect(await finish(world)).toEqual(from(0));
    }
  });

  it('keeps what it has when the registry gives no ranges any more', async () => {
    const world = await downloadWorld(blob);
    await downloadUpTo(world, 7);
    world.front.interfere(everything, ignoreRange);
    expect((await finish(world)).filter((range) => range === 'all')).toHaveLength(1);
  });

  it('is right whenever the process before it was killed', async () => {
    for (let round = 0; round < rounds(20, 10, 0.1); round += 1) {
      const world = await downloadWorld(blob);
      const slow = world.front.interfere(everything, (_request, _response, forward) => void setTimeout(forward, 3));
      const child = spawn(process.execPath, [
        worker,
        world.folder,
        world.front.host,
        blob.descriptor.digest,
        `${size}`,
        `${chunkSize}`,
      ]);
      const until = (0.2 + 0.7 * Math.random()) * size;
      child.stdout.on('data', (text: Buffer) => {
        if (Number(text.toString().trim().split('\n').at(-1)) >= until) child.kill('SIGKILL');
      });
      expect(await once(child, 'exit')).toEqual([null, 'SIGKILL']);
      slow();
      overwrite(join(world.folder, 'blob'), 1_000, 'damage');
      world.front.forget();
      const asked = await finish(world);
      expect(asked).toContain(rangeOf(0));
      // At most three chunks were on their way when it was killed.
      expect(asked.length).toBeLessThanOrEqual(1 + 3 + Math.ceil((size - until) / chunkSize));
    }
  });
});

describe('a disk that refuses', () => {
  it('is ERR_UNPACK_DISK when the files cannot be made', async () => {
    const world = await downloadWorld(blob);
    symlinkSync('/etc/hostname', join(world.folder, 'blob'));
    await expect(world.open()).rejects.toMatchObject({ code: 'ERR_UNPACK_DISK' });
    await expect(world.open({ folder: join(world.folder, 'none') })).rejects.toMatchObject({ code: 'ERR_UNPACK_DISK' });
    expect(openFilesBelow(world.folder)).toEqual([]);
    expect(world.front.requests).toEqual([]);
  });

  it.skipIf(!canMount)('is ERR_UNPACK_DISK when it is full, and ends everything', async () => {
    const world = await downloadWorld(blob);
    const folder = mountPoint();
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1500k', 'peel-test', folder]);
    const held = heldBack(blob, 1_000);
    world.front.interfere(({ headers }) => headers.range?.startsWith('bytes=0-') === true, held.fault);
    const download = await world.open({ folder });
    await expect(bytesOf(download.stream({ signal: never }))).rejects.toMatchObject({
      code: 'ERR_UNPACK_DISK',
      message: expect.stringMatching(/blob: ENOSPC/),
    });
    await download.close();
    expect([world.leases.available, world.leases.waiting]).toEqual([4, 0]);
    expect(openFilesBelow(folder)).toEqual([]);
  });
});
