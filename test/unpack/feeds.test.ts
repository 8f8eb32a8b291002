// Blobs that are on this machine already, and those of somebody else who gives them.
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { CompressedStore } from '../../src/unpack/compressed-store.ts';
import { localFeed } from '../../src/unpack/local-feed.ts';
import { sourceFeed } from '../../src/unpack/source-feed.ts';
import { bytesOf, downloadWorld, rangesOf } from '../support/download-world.ts';
import { answer, breaksAt, everything, heldBack } from '../support/faults.ts';
import { openFilesBelow } from '../support/proxy-stack.ts';
import { content, readAll } from '../support/registry-content.ts';
import { tempDir } from '../support/tmp.ts';

const blob = content(2_500_000);
const never = new AbortController().signal;

function fileWith(bytes: Uint8Array): { dir: string; path: string } {
  const dir = tempDir();
  const path = join(dir, 'file');
  writeFileSync(path, bytes);
  return { dir, path };
}

describe('localFeed', () => {
  it('gives the file in order, and any part of it', async () => {
    const { dir, path } = fileWith(blob.bytes);
    const feed = localFeed(path, blob.descriptor);
    expect([feed.kind, feed.path]).toEqual(['node', path]);
    expect((await bytesOf(feed.stream({ signal: never }))).equals(blob.bytes)).toBe(true);
    const part = await readAll(await feed.source.readRange(2_000_000, 9_000_000));
    expect(part.equals(blob.bytes.subarray(2_000_000))).toBe(true);
    expect((await readAll(await feed.source.readAll())).equals(blob.bytes)).toBe(true);
    expect(openFilesBelow(dir)).toEqual([]);
    await feed.close();
  });

  it('says that the file is gone, or has another size', async () => {
    const missing = localFeed(join(tempDir(), 'gone'), blob.descriptor);
    await expect(bytesOf(missing.stream({ signal: never }))).rejects.toMatchObject({ code: 'ERR_UNPACK_BLOB_MISSING' });
    const { dir, path } = fileWith(blob.bytes.subarray(1));
    const short = localFeed(path, blob.descriptor);
    await expect(bytesOf(short.stream({ signal: never }))).rejects.toMatchObject({ code: 'ERR_UNPACK_DIGEST' });
    await expect(bytesOf(localFeed(dir, blob.descriptor).stream({ signal: never }))).rejects.toMatchObject({
      code: expect.stringMatching(/^ERR_UNPACK_(DIGEST|DISK)$/),
    });
    expect(openFilesBelow(dir)).toEqual([]);
  });

  it('ends with its signal, and with close, and leaves no file open', async () => {
    const { dir, path } = fileWith(blob.bytes);
    for (const how of ['signal', 'close']) {
      const feed = localFeed(path, blob.descriptor);
      const ending = new AbortController();
      const pieces = feed.stream({ signal: ending.signal })[Symbol.asyncIterator]();
      expect((await pieces.next()).value).toHaveLength(1 << 20);
      if (how === 'signal') ending.abort(new Error('enough'));
      else await feed.close();
      await expect(pieces.next()).rejects.toThrow(how === 'signal' ? 'enough' : 'was ended');
      expect(openFilesBelow(dir)).toEqual([]);
    }
  });
});

describe('sourceFeed', () => {
  it('gives what the source has, and goes on where it broke', async () => {
    const { front, source } = await downloadWorld(blob);
    front.interfere(({ headers }) => headers.range === undefined, breaksAt(blob, 400_000));
    const feed = sourceFeed('containerd', source, blob.descriptor);
    expect([feed.kind, feed.path, feed.source]).toEqual(['containerd', undefined, source]);
    expect((await bytesOf(feed.stream({ signal: never }))).equals(blob.bytes)).toBe(true);
    expect(rangesOf(front)).toEqual(['all', '400000-2499999']);
  });

  it('fails as a download does', async () => {
    const { front, source } = await downloadWorld(blob);
    const longer = sourceFeed('containerd', source, { ...blob.descriptor, size: blob.descriptor.size + 1 });
    await expect(bytesOf(longer.stream({ signal: never }))).rejects.toMatchObject({ code: 'ERR_UNPACK_DIGEST' });
    front.interfere(everything, answer(404));
    const feed = sourceFeed('containerd', source, blob.descriptor);
    await expect(bytesOf(feed.stream({ signal: never }))).rejects.toMatchObject({
      code: 'ERR_UNPACK_BLOB_MISSING',
      message: expect.stringContaining(source.name),
    });
  });

  it('ends with its signal, and with close', async () => {
    const { front, source } = await downloadWorld(blob);
    front.interfere(everything, heldBack(blob, 0).fault);
    for (const how of ['signal', 'close']) {
      front.forget();
      const feed = sourceFeed('containerd', source, blob.descriptor);
      const ending = new AbortController();
      const reading = expect(bytesOf(feed.stream({ signal: ending.signal }))).rejects.toThrow(/enough|was ended/);
      await expect.poll(() => front.requests).toHaveLength(1);
      if (how === 'signal') ending.abort(new Error('enough'));
      else await feed.close();
      await reading;
      if (how === 'close') {
        await expect(bytesOf(feed.stream({ signal: never }))).rejects.toMatchObject({ code: 'ERR_UNPACK_CANCELLED' });
      }
    }
  });
});

describe('CompressedStore', () => {
  it('keeps a file by rename, lists and removes it', async () => {
    const root = tempDir();
    const store = new CompressedStore(root);
    const { digest, size } = blob.descriptor;
    expect(await store.list()).toEqual([]);
    expect(await store.has(blob.descriptor)).toBe(false);
    for (let round = 0; round < 2; round += 1) {
      const file = join(root, 'file');
      writeFileSync(file, blob.bytes);
      await store.keep(digest, file);
      expect(readdirSync(root)).toEqual(['compressed']);
    }
    expect(store.path(digest)).toBe(join(root, 'compressed', 'sha256', digest.slice(7)));
    expect(readFileSync(store.path(digest)).equals(blob.bytes)).toBe(true);
    expect(await store.has(blob.descriptor)).toBe(true);
    expect(await store.has({ digest, size: size - 1 })).toBe(false);
    expect(await store.list()).toEqual([{ digest, size }]);
    expect([await store.remove(digest), await store.remove(digest)]).toEqual([true, false]);
    expect(await store.list()).toEqual([]);
  });

  it('passes over what is no blob, and leaves the file where it was when it cannot be kept', async () => {
    const root = tempDir();
    const store = new CompressedStore(root);
    const { digest } = blob.descriptor;
    mkdirSync(store.path(digest), { recursive: true });
    writeFileSync(join(root, 'compressed', 'sha256', 'readme'), 'x');
    expect(await store.list()).toEqual([]);
    expect(await store.has({ digest, size: 0 })).toBe(false);
    writeFileSync(join(root, 'file'), blob.bytes);
    await expect(store.keep(digest, join(root, 'file'))).rejects.toMatchObject({ code: 'ERR_UNPACK_DISK' });
    expect(readFileSync(join(root, 'file')).equals(blob.bytes)).toBe(true);
    await expect(store.keep(digest, join(root, 'none'))).rejects.toMatchObject({ code: 'ERR_UNPACK_DISK' });
  });
});
