import { describe, expect, it } from 'vitest';
import { LiveBuffer } from '../../src/registry/proxy/live-buffer.ts';
import { verifiedChunks } from '../../src/registry/proxy/verified-chunks.ts';
import { content, streamOf } from '../support/registry-content.ts';

/** What comes, and how it ends. */
async function drain(chunks: AsyncIterable<Uint8Array>): Promise<{ bytes: Buffer; error: unknown }> {
  const seen: Uint8Array[] = [];
  try {
    for await (const chunk of chunks) seen.push(chunk);
    return { bytes: Buffer.concat(seen), error: undefined };
  } catch (error) {
    return { bytes: Buffer.concat(seen), error };
  }
}

describe('verifiedChunks', () => {
  const blob = content(300_000);

  it.each([0, 1, 300_000])('passes on %s bytes that are right', async (size) => {
    const right = content(size);
    const { bytes, error } = await drain(verifiedChunks(streamOf(right.bytes), right.descriptor));
    expect(error).toBeUndefined();
    expect(bytes).toEqual(right.bytes);
  });

  it.each<[string, Buffer, string]>([
    ['other', content(300_000).bytes, 'DIGEST_INVALID'],
    ['fewer', blob.bytes.subarray(1), 'SIZE_INVALID'],
    ['more', Buffer.concat([blob.bytes, Buffer.alloc(1)]), 'SIZE_INVALID'],
    ['no', Buffer.alloc(0), 'SIZE_INVALID'],
  ])('never gives out as many bytes as were announced when they are %s bytes', async (_what, wrong, code) => {
    const { bytes, error } = await drain(verifiedChunks(streamOf(wrong), blob.descriptor));
    expect(error).toMatchObject({ code });
    expect(bytes.byteLength).toBeLessThan(300_000);
  });
});

describe('LiveBuffer', () => {
  const { signal } = new AbortController();

  it.each([1, 1_000, 100_000])('holds little more than its limit, in chunks of %s bytes', async (size) => {
    const buffer = new LiveBuffer(1_000_000);
    for (let i = 0; i < 50_000; i += 1) buffer.offer(Buffer.alloc(size));
    const { bytes } = await drain(buffer.read(signal));
    expect(bytes.byteLength).toBeLessThanOrEqual(1_000_000 + size);
    expect(buffer.taken).toBe(bytes.byteLength);
  });

  it('ends where it was full, and gives what came before', async () => {
    const buffer = new LiveBuffer(1);
    buffer.offer(Buffer.from('one'));
    buffer.offer(Buffer.from('two'));
    const chunks = buffer.read(signal);
    expect((await chunks.next()).value).toEqual(Buffer.from('one'));
    buffer.offer(Buffer.from('three'));
    expect(await chunks.next()).toEqual({ done: true, value: 'behind' });
  });

  it('lets a writer wait for room, until the reader leaves', async () => {
    const buffer = new LiveBuffer(1);
    buffer.add(Buffer.from('one'));
    const room = buffer.room(signal);
    await buffer.read(signal).next();
    expect(await room).toBe(true);
    buffer.add(Buffer.from('two'));
    const none = buffer.room(signal);
    buffer.close();
    expect(await none).toBe(false);
  });

  it('gives what came before a failure, and then fails', async () => {
    const buffer = new LiveBuffer(1_000);
    buffer.offer(Buffer.from('one'));
    buffer.fail(new Error('gone'));
    expect(await drain(buffer.read(signal))).toEqual({ bytes: Buffer.from('one'), error: new Error('gone') });
  });
});
