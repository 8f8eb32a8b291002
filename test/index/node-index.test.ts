import { createHash } from 'node:crypto';
import { copyFile, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { decodeEntries } from '../../src/index/entry-decoder.ts';
import { encodeEntries } from '../../src/index/entry-encoder.ts';
import { defaultIndexLimits } from '../../src/index/limits.ts';
import { type NodeIndex, openNodeIndex } from '../../src/index/node-index.ts';
import { encodeNodeIndex, writeNodeIndex } from '../../src/index/node-index-writer.ts';
import type { RemoteWindows } from '../../src/index/peel-windows.ts';
import { readZtoc } from '../../src/index/ztoc-reader.ts';
import type { TarEntry } from '../../src/tar/entry.ts';
import { tempDir } from '../support/tmp.ts';
import { windowBlob } from '../support/window-blob.ts';
import { sampleEntries, sampleEntry, sampleZtoc, text } from './samples.ts';

const provenance = { format: 'soci-v1', source: 'a test' } as const;

describe('entries of a node index', () => {
  it('come back as they were', () => {
    const entries: TarEntry[] = [
      ...sampleEntries,
      sampleEntry({
        path: text('./sparse'),
        type: 'file',
        size: 5_000_000_000,
        sparse: true,
        extents: [
          { fileOffset: 0, streamOffset: 8192, size: 512 },
          { fileOffset: 4_999_999_488, streamOffset: 8704, size: 512 },
        ],
        dataOffset: 8192,
      }),
      sampleEntry({ path: text('./hole'), type: 'file', size: 99, sparse: true, extents: [], dataOffset: 10_240 }),
      sampleEntry({
        path: text('./far'),
        type: 'file',
        size: 1,
        headerOffset: 2 ** 41,
        dataOffset: 2 ** 41 + 1024,
        mtime: -(2 ** 40),
      }),
      sampleEntry({
        path: text('./x'),
        type: 'file',
        xattrs: new Map([[text('user.only'), new Uint8Array([1, 0])]]),
        dataOffset: 2 ** 42,
      }),
      sampleEntry({ path: text(''), type: 'dir', dataOffset: 2 ** 42 + 512 }),
    ];
    const decoded = decodeEntries(encodeEntries(entries), defaultIndexLimits);
    const plain = (entry: TarEntry) => ({
      ...entry,
      pax: [...entry.pax].map(([k, v]) => [k, Buffer.from(v).toString('hex')]),
      xattrs: [...entry.xattrs].map(([k, v]) => [k, Buffer.from(v).toString('hex')]),
    });
    expect(decoded.map(plain)).toEqual(entries.map(plain));
  });

  it('are small and fast', () => {
    const entries = Array.from({ length: 100_000 }, (_, i) =>
      sampleEntry({
        path: text(`usr/lib/python3/dist-packages/package${i >> 8}/module${i}.py`),
        type: 'file',
        size: 700,
        mtime: 1_700_000_000 + (i >> 8),
        dataOffset: 512 + 1536 * i,
      }),
    );
    const bytes = encodeEntries(entries);
    expect(bytes.length).toBeLessThan(40 * entries.length);
    expect(decodeEntries(bytes, defaultIndexLimits)).toHaveLength(entries.length);
  });
});

describe('a node index file', () => {
  let path: string;
  let fingerprint: Uint8Array;

  beforeEach(async () => {
    path = join(tempDir(), 'index');
    fingerprint = await writeNodeIndex(path, readZtoc(sampleZtoc(20)), provenance);
  });

  async function opened<T>(use: (index: NodeIndex) => Promise<T>, file = path): Promise<T> {
    const index = await openNodeIndex(file);
    try {
      return await use(index);
    } finally {
      await index.close();
    }
  }

  it('is the layer index it was made from', async () => {
    const ztoc = readZtoc(sampleZtoc(20));
    await opened(async (index) => {
      expect(index.info).toMatchObject({ ...provenance, entryCount: 6, spanCount: 20 });
      expect(Buffer.from(index.fingerprint).equals(fingerprint)).toBe(true);
      expect(index.entries).toEqual(ztoc.entries);
      const { count, blobSize, streamSize, openEnded, spanSize } = index.spans;
      expect({ count, blobSize, streamSize, openEnded, spanSize }).toEqual({
        count: 20,
        blobSize: ztoc.spans.blobSize,
        streamSize: ztoc.spans.streamSize,
        openEnded: true,
        spanSize: 2048,
      });
      for (let i = 0; i < 20; i++) {
        expect(index.spans.span(i)).toEqual(ztoc.spans.span(i));
        const [ours, theirs] = [await index.spans.window(i), await ztoc.spans.window(i)];
        expect(ours === undefined ? ours : Buffer.from(ours)).toEqual(
          theirs === undefined ? theirs : Buffer.from(theirs),
        );
      }
      await index.verify();
    });
  });

  it('has the same bytes when made again, and from itself', async () => {
    const { pieces, size } = await encodeNodeIndex(readZtoc(sampleZtoc(20)), provenance);
    const bytes = Buffer.concat(pieces);
    expect(bytes.length).toBe(size);
    expect(bytes.equals(await readFile(path))).toBe(true);
    const again = await opened((index) => encodeNodeIndex(index, provenance));
    expect(Buffer.from(again.fingerprint)).toEqual(Buffer.from(fingerprint));
  });

  it('is refused when a newer release wrote it', async () => {
    const bytes = await readFile(path);
    bytes.writeUInt32LE(3, 8);
    await writeFile(path, bytes);
    await expect(openNodeIndex(path)).rejects.toMatchObject({
      code: 'ERR_INDEX_VERSION',
      message: expect.stringContaining('version 3'),
    });
  });

  it.each([0, 1, 100, 176, 500, -1])('is refused when cut to %i bytes', async (length) => {
    await truncate(path, length < 0 ? (await readFile(path)).length + length : length);
    await expect(openNodeIndex(path)).rejects.toMatchObject({ code: 'ERR_INDEX_CHECKSUM' });
  });

  it('notices every flipped bit, at the latest when it is used', async () => {
    const good = await readFile(path);
    const bad = `${path}.bad`;
    await copyFile(path, bad);
    for (let at = 0; at < good.length; at += at < 400 ? 7 : 101) {
      const bytes = Buffer.from(good);
      bytes[at] = (bytes[at] as number) ^ (1 << (at % 8));
      await writeFile(bad, bytes);
      const outcome = opened((index) => index.verify(), bad);
      // Padding between sections carries no information.
      await outcome.catch((error: unknown) => {
        expect((error as { code?: string }).code, `byte ${at}`).toMatch(/^ERR_INDEX_(CHECKSUM|VERSION)$/);
      });
      if (at < 176 || at > 400) await expect(outcome, `byte ${at}`).rejects.toThrow();
    }
  });

  it('is absent as a file is', async () => {
    await expect(openNodeIndex(`${path}.none`)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('is not written when it would be too large to open', async () => {
    const ztoc = readZtoc(sampleZtoc(3));
    const size = encodeEntries(ztoc.entries).length;
    const write = (blobBytes: number) =>
      writeNodeIndex(`${path}.2`, ztoc, provenance, { limits: { ...defaultIndexLimits, blobBytes } });
    await expect(write(size - 1)).rejects.toMatchObject({
      code: 'ERR_INDEX_LIMIT',
      message: `size of entries in an index file is ${size}, more than the limit of ${size - 1}`,
    });
    await expect(readFile(`${path}.2`)).rejects.toMatchObject({ code: 'ENOENT' });
    await write(size);
  });

  it('leaves nothing behind when it cannot be written', async () => {
    const aborted = AbortSignal.abort(new Error('enough'));
    await expect(writeNodeIndex(`${path}.2`, readZtoc(sampleZtoc(3)), provenance, { signal: aborted })).rejects.toThrow(
      'enough',
    );
    await expect(readFile(`${path}.2`)).rejects.toMatchObject({ code: 'ENOENT' });
  });
});

describe('a node index whose windows are elsewhere', () => {
  const ztoc = readZtoc(sampleZtoc(20));
  const made = windowBlob(Array.from({ length: 20 }, (_, i) => (i % 3 === 0 ? 0 : 800)));

  async function write(): Promise<string> {
    const path = join(tempDir(), 'index');
    await writeNodeIndex(path, ztoc, { format: 'peel', source: 'a test' }, { windows: made.windows });
    return path;
  }

  it('says where they are, and gives those that its source gives', async () => {
    const path = await write();
    const bytes = await readFile(path);
    expect(bytes.readUInt32LE(8)).toBe(2);
    const index = await openNodeIndex(path);
    try {
      await index.verify();
      expect(index.info).toMatchObject({ format: 'peel', spanCount: 20, entryCount: ztoc.entries.length });
      const plain = ({ offsets, lengths, sha256, ...blob }: RemoteWindows) => ({
        ...blob,
        offsets: [...offsets],
        lengths: [...lengths],
        sha256: Buffer.from(sha256).toString('hex'),
      });
      expect(index.windows && plain(index.windows)).toEqual(plain(made.windows));
      for (let i = 0; i < 20; i++) expect(index.spans.span(i)).toEqual(ztoc.spans.span(i));
      expect(index.entries).toEqual(ztoc.entries);

      await expect(index.spans.window(1)).rejects.toThrow(made.windows.digest);
      const prepared: (readonly number[])[] = [];
      index.useWindows({
        prepare: (spans) => prepared.push(spans),
        window: async (span) => made.plain[span] ?? Buffer.from('nobody asks for this one'),
      });
      index.spans.prepareWindows([1, 2, 3]);
      expect(prepared).toEqual([[1, 2, 3]]);
      for (let i = 0; i < 20; i++) expect(await index.spans.window(i)).toEqual(made.plain[i]);
    } finally {
      await index.close();
    }
  });

  it('has the same bytes when made again, and refuses windows of another layer', async () => {
    expect(await readFile(await write())).toEqual(await readFile(await write()));
    const { windows } = windowBlob([0, 800]);
    await expect(encodeNodeIndex(ztoc, provenance, { windows })).rejects.toThrow('windows of 2 spans');
  });

  it('is refused when its version is that of the other kind', async () => {
    const path = await write();
    const bytes = await readFile(path);
    bytes.writeUInt32LE(1, 8);
    createHash('sha256').update(bytes.subarray(0, 144)).digest().copy(bytes, 144);
    await writeFile(path, bytes);
    await expect(openNodeIndex(path)).rejects.toMatchObject({ code: 'ERR_INDEX_FORMAT' });
  });

  it('notices every flipped bit when it is opened or read', async () => {
    const path = await write();
    const good = await readFile(path);
    for (let at = 400; at < good.length; at += 211) {
      const bytes = Buffer.from(good);
      bytes[at] = (bytes[at] as number) ^ (1 << (at % 8));
      await writeFile(path, bytes);
      const read = async (): Promise<void> => {
        const index = await openNodeIndex(path);
        try {
          await index.verify();
        } finally {
          await index.close();
        }
      };
      await expect(read(), `byte ${at}`).rejects.toMatchObject({ code: 'ERR_INDEX_CHECKSUM' });
    }
  });
});
