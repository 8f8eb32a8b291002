import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import type { BlobSource } from '../../src/layer/blob-source.ts';
import { blobStream } from '../../src/layer/blob-stream.ts';
import { RegistryError } from '../../src/registry/errors.ts';
import { content } from '../support/registry-content.ts';

const blob = content(randomBytes(50_000));

/** A source whose transfers break after `after` bytes, the first `times` times. */
function breaking(times: number, after: number): { source: BlobSource; starts: number[] } {
  const starts: number[] = [];
  let left = times;
  const from = async (start: number) => {
    starts.push(start);
    const breaks = left-- > 0;
    async function* bytes(): AsyncGenerator<Buffer> {
      yield blob.bytes.subarray(start, breaks ? start + after : undefined);
      if (breaks) throw new RegistryError('TRUNCATED', 'the connection broke');
    }
    return { descriptor: blob.descriptor, body: Readable.from(bytes(), { objectMode: false }), close: () => {} };
  };
  return { source: { name: 'test', readAll: () => from(0), readRange: (start) => from(start) }, starts };
}

async function all(stream: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

describe('blobStream', () => {
  it('resumes where a transfer broke', async () => {
    const { source, starts } = breaking(2, 10_000);
    expect((await all(blobStream(source, blob.bytes.length))).equals(blob.bytes)).toBe(true);
    expect(starts).toEqual([0, 10_000, 20_000]);
  });

  it('gives up after failures without a byte between them', async () => {
    const { source } = breaking(100, 0);
    await expect(all(blobStream(source, blob.bytes.length, { attempts: 3 }))).rejects.toMatchObject({
      code: 'ERR_LAYER_FETCH',
    });
  });

  it('says that the blob is shorter than promised', async () => {
    const { source } = breaking(0, 0);
    await expect(all(blobStream(source, 60_000))).rejects.toMatchObject({
      code: 'ERR_LAYER_SHORT',
      message: expect.stringContaining('60000'),
    });
  });
});
