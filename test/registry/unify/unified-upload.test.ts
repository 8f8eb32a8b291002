import { readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { DirRegistry, ForwardingRegistry, RegistryError, unify } from '../../../src/registry/registry.ts';
import type { BlobWriter, CallOptions, Registry } from '../../../src/registry/registry.ts';
import { openFilesBelow } from '../../support/proxy-stack.ts';
import { content, readAll } from '../../support/registry-content.ts';
import { twoRegistries } from '../../support/two-registries.ts';

/** Takes `budget` bytes of uploads and then fails in the middle of a chunk, until it is given more. */
class Failing extends ForwardingRegistry {
  budget: number;

  constructor(inner: Registry, budget: number) {
    super(inner);
    this.budget = budget;
  }

  override async pushBlobChunked(repository: string, chunkSize: number | undefined): Promise<BlobWriter> {
    return this.#limited(await super.pushBlobChunked(repository, chunkSize));
  }

  override async resumeBlob(repository: string, id: string, offset: number | undefined): Promise<BlobWriter> {
    return this.#limited(await super.resumeBlob(repository, id, offset));
  }

  #limited(writer: BlobWriter): BlobWriter {
    const write = async (chunk: Uint8Array, options?: CallOptions) => {
      const taken = chunk.subarray(0, this.budget);
      this.budget -= taken.byteLength;
      await writer.write(taken, options);
      if (taken.byteLength < chunk.byteLength) throw new RegistryError('UNREACHABLE', 'the connection broke');
    };
    return new Proxy(writer, {
      get: (target, name: keyof BlobWriter) => {
        if (name === 'write') return write;
        const value = target[name];
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
  }
}

function uploadsIn(root: string): string[] {
  return readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((file) => /_uploads\/./.test(file));
}

describe('an upload to two registries', () => {
  const rounds = Array.from({ length: 12 }, (_, i) => i * 800 + (i % 3) * 33);

  it.each(rounds)('is resumed where the side stands that has less, after one took only %s bytes', async (budget) => {
    const { first, second, root } = twoRegistries();
    for (const [a, b] of [
      [new Failing(first, budget), second],
      [first, new Failing(second, budget)],
    ] as const) {
      const failing = (a instanceof Failing ? a : b) as Failing;
      const both = unify(a, b);
      const blob = content(10_000);
      const chunk = 1_000;
      let writer = await both.pushBlobChunked('a', undefined);
      let failures = 0;
      while (writer.size < blob.bytes.byteLength) {
        try {
          await writer.write(blob.bytes.subarray(writer.size, writer.size + chunk));
        } catch (error) {
          expect(error).toMatchObject({ code: 'UNREACHABLE' });
          failures += 1;
          await writer.close();
          failing.budget = failures === 1 ? 1_234 : 100_000;
          writer = await both.resumeBlob('a', writer.id, undefined);
        }
      }
      expect(failures).toBeGreaterThan(0);
      await writer.commit(blob.descriptor.digest);
      for (const side of [first, second]) {
        expect(await readAll(await side.getBlob('a', blob.descriptor.digest))).toEqual(blob.bytes);
      }
    }
    expect(uploadsIn(root)).toEqual([]);
  });

  it('stands at the smaller offset of two, and gives each side only what it lacks', async () => {
    const { first, second, both, root } = twoRegistries();
    const blob = content(1_000);
    const ahead = await first.pushBlobChunked('a');
    await ahead.write(blob.bytes.subarray(0, 700));
    await ahead.close();
    const behind = await second.pushBlobChunked('a');
    await behind.write(blob.bytes.subarray(0, 100));
    await behind.close();
    const id = Buffer.from(JSON.stringify([ahead.id, behind.id])).toString('base64url');
    await expect(both.resumeBlob('a', id, 700)).rejects.toMatchObject({ code: 'RANGE_INVALID' });
    let writer = await both.resumeBlob('a', id, 100);
    await writer.write(blob.bytes.subarray(100, 400));
    expect(writer.size).toBe(400);
    await expect(writer.commit(blob.descriptor.digest)).rejects.toMatchObject({
      code: 'BLOB_UPLOAD_INVALID',
      message: expect.stringMatching(/700 .* 400 /),
    });
    expect(openFilesBelow(root)).toEqual([]);
    writer = await both.resumeBlob('a', writer.id, undefined);
    expect(writer.size).toBe(400);
    for (let at = 400; at < 1_000; at += 150) await writer.write(blob.bytes.subarray(at, at + 150));
    await writer.commit(blob.descriptor.digest);
    for (const side of [first, second]) {
      expect(await readAll(await side.getBlob('a', blob.descriptor.digest))).toEqual(blob.bytes);
    }
  });

  it('does not become a blob when other bytes are sent again', async () => {
    const { first, second, both, root } = twoRegistries();
    const blob = content(1_000);
    const ahead = await first.pushBlobChunked('a');
    await ahead.write(Buffer.alloc(500));
    await ahead.close();
    const behind = await second.pushBlobChunked('a');
    await behind.close();
    const id = Buffer.from(JSON.stringify([ahead.id, behind.id])).toString('base64url');
    const writer = await both.resumeBlob('a', id, 0);
    await writer.write(blob.bytes);
    await expect(writer.commit(blob.descriptor.digest)).rejects.toMatchObject({ code: 'DIGEST_INVALID' });
    await expect(first.resolveBlob('a', blob.descriptor.digest)).rejects.toMatchObject({ code: 'BLOB_UNKNOWN' });
    expect(uploadsIn(root)).toEqual([]);
  });

  it('begins anew when one side has committed it', async () => {
    const { first, second, both } = twoRegistries();
    const blob = content(1_000);
    const writer = await both.pushBlobChunked('a', undefined);
    await writer.write(blob.bytes);
    await writer.close();
    const [id] = JSON.parse(Buffer.from(writer.id, 'base64url').toString()) as [string];
    await (await first.resumeBlob('a', id, 1_000)).commit(blob.descriptor.digest);
    await expect(both.resumeBlob('a', writer.id, undefined)).rejects.toMatchObject({
      code: 'BLOB_UPLOAD_UNKNOWN',
      message: expect.stringContaining('in the first of two registries'),
    });
    const again = await both.pushBlobChunked('a', undefined);
    await again.write(blob.bytes);
    await again.commit(blob.descriptor.digest);
    expect(await readAll(await second.getBlob('a', blob.descriptor.digest))).toEqual(blob.bytes);
  });

  it('leaves nothing when it is cancelled', async () => {
    const { both, root } = twoRegistries();
    const writer = await both.pushBlobChunked('a', undefined);
    await writer.write(Buffer.alloc(100));
    expect(uploadsIn(root)).toHaveLength(2);
    await writer.cancel();
    await writer.cancel();
    expect(uploadsIn(root)).toEqual([]);
  });

  it.each<[string, string]>([
    ['nothing', ''],
    ['no json', '!!!!'],
    ['an object', encoded({ 0: 'a', 1: 'b' })],
    ['one id', encoded(['a'.repeat(32)])],
    ['three ids', encoded(['a', 'b', 'c'])],
    ['numbers', encoded([1, 2])],
    ['paths', encoded(['../../x', '../../y'])],
    ['a list as long as memory', encoded(['a', 'b'.repeat(100_000)])],
    ['deep nesting', Buffer.from('['.repeat(20_000)).toString('base64url')],
  ])('is unknown by an id of %s', async (_what, id) => {
    const { both } = twoRegistries();
    await expect(both.resumeBlob('a', id, undefined)).rejects.toMatchObject({ code: 'BLOB_UPLOAD_UNKNOWN' });
  });

  it('is of its repository', async () => {
    const { both } = twoRegistries();
    const writer = await both.pushBlobChunked('a', undefined);
    await writer.close();
    await expect(both.resumeBlob('b', writer.id, undefined)).rejects.toMatchObject({ code: 'BLOB_UPLOAD_UNKNOWN' });
    await expect(unify(new DirRegistry('/nowhere'), both).resumeBlob('a', writer.id, 0)).rejects.toMatchObject({
      code: 'BLOB_UPLOAD_UNKNOWN',
    });
  });
});

function encoded(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}
