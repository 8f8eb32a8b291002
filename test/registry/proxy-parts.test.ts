import { describe, expect, it } from 'vitest';
import { RecentBytes } from '../../src/registry/pull-through/recent-bytes.ts';
import { verifiedChunks } from '../../src/registry/streams/verified-chunks.ts';
import { content, digestOf, streamOf } from '../support/registry-content.ts';

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
    expect(digestOf(bytes)).toBe(right.descriptor.digest);
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

describe('RecentBytes', () => {
  it.each([1, 1_000, 100_000])('holds no more than its limit, in chunks of %s bytes', (size) => {
    const recent = new RecentBytes(1_000_000);
    const [count, chunk] = [20_000, Buffer.alloc(size)];
    for (let i = 0; i < count; i += 1) recent.add(chunk);
    const end = count * size;
    const held = Math.floor(1_000_000 / (size + 256)) * size;
    expect(recent.at(end - held)).toHaveLength(size);
    expect(recent.at(end - held - 1)).toBeUndefined();
    expect(recent.at(end - 1)).toHaveLength(1);
    expect(recent.at(end)).toBeUndefined();
  });

  it('gives what follows a position in its chunk, and has the last chunk in any case', () => {
    const recent = new RecentBytes(600);
    expect(recent.at(0)).toBeUndefined();
    for (const chunk of ['one', '', 'three']) recent.add(Buffer.from(chunk));
    const found = [0, 3, 5, 7, 8].map((position) => recent.at(position)?.toString());
    expect(found).toEqual([undefined, 'three', 'ree', 'e', undefined]);
    recent.add(Buffer.alloc(1_000));
    expect(recent.at(7)).toBeUndefined();
    expect(recent.at(8)).toHaveLength(1_000);
  });
});
