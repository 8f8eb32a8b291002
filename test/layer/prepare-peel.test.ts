import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { gzipSync } from 'node:zlib';
import { describe, expect, it, onTestFinished } from 'vitest';
import { checkWindows } from '../../src/fsck/check-windows.ts';
import { openNodeIndex } from '../../src/index/node-index.ts';
import type { Layer } from '../../src/layer/layer.ts';
import { answer, forBlob } from '../support/faults.ts';
import { noise } from '../index/layers.ts';
import { flipBit } from '../support/flip-bit.ts';
import { type LabLayer, labLayer, sha256 } from '../support/image-lab.ts';
import { LayerLab } from '../support/layer-lab.ts';
import { type PeelLayer, offering, peelLayer } from '../support/peel-layer.ts';
import { tarOf } from '../support/tar-members.ts';

const spanSize = 64 << 10;

/** Half of it refers back over the whole window, half is new. */
function text(length: number): Buffer {
  const words = noise(3000).toString('base64');
  const fresh = noise(length).toString('hex');
  const lines = Array.from({ length: Math.ceil(length / 40) }, (_, i) => {
    const at = (i * 37) % 3000;
    return `${words.slice(at, at + 20)}${fresh.slice(i * 20, i * 20 + 20)}`;
  });
  return Buffer.from(lines.join('')).subarray(0, length);
}

function madeLayer(seed: string): LabLayer {
  const tar = tarOf(
    { path: 'dir', type: 'dir', mode: 0o711 },
    { path: 'dir/text', data: Buffer.concat([text(600_000), Buffer.from(seed)]) },
    { path: 'dir/noise', data: randomBytes(300_000), mode: 0o4755 },
    { path: 'dir/.wh.gone' },
    { path: 'dir/z', type: 'hardlink', link: 'dir/text' },
  );
  return labLayer(tar, 'gzip');
}

async function lab(layer: LabLayer = madeLayer('a'), options: { readDeadlineMs?: number } = {}) {
  const made = await peelLayer(layer, { spanSize });
  const started = await LayerLab.start(options);
  if (made.windows !== undefined) await started.pushBlob(made.windows.content);
  return { layer, made, lab: started, windows: made.windows?.content.descriptor.digest ?? '' };
}

async function expectRead(layer: Layer, { tar }: LabLayer, offset: number, length: number): Promise<void> {
  const bytes = await layer.read(offset, length);
  expect(bytes.equals(tar.subarray(offset, offset + length)), `stream bytes from ${offset}`).toBe(true);
}

describe('a layer with a peel table', () => {
  it('is read span by span, and windows are asked for with the spans', async () => {
    const { layer, made, lab: node, windows } = await lab();
    const opened = await node.openBy(layer, offering(made.index), { indexRequired: true });
    expect(opened.row).toMatchObject({ indexFormat: 'peel', reason: `peel table ${made.table.descriptor.digest}` });
    expect(opened.entries().map(({ path, type, mode }) => [path, type, mode])).toEqual([
      ['dir', 'dir', 0o711],
      ['dir/text', 'file', 0o644],
      ['dir/noise', 'file', 0o4755],
      ['dir/.wh.gone', 'file', 0o644],
      ['dir/z', 'hardlink', 0o644],
    ]);
    expect(node.front.seen('/blobs/')).toEqual([]);
    const blob = layer.descriptor.digest;
    // Neither is answered before both were asked for.
    const waiting = new Map<string, () => void>();
    const stop = [blob, windows].map((digest) =>
      node.front.interfere(forBlob(digest), (_request, _response, forward) => {
        waiting.set(digest, forward);
        if (waiting.size === 2) for (const go of waiting.values()) go();
      }),
    );
    await expectRead(opened, layer, 500_000, 1000);
    for (const end of stop) end();
    expect(node.front.bytes(blob)).toBeLessThan(layer.blob.length / 3);
    expect(node.front.seen(windows)).toHaveLength(1);
    node.front.forget();
    await expectRead(opened, layer, 500_000 + 2 * spanSize, 1000);
    await expectRead(opened, layer, 0, layer.tar.length);
    await opened.fillCache({ signal: AbortSignal.timeout(20_000) });
    expect(opened.complete).toBe(true);
  });

  it('has windows that fsck checks, and takes out what is wrong with them', async () => {
    const { layer, made, lab: node } = await lab();
    const opened = await node.openBy(layer, offering(made.index));
    await expectRead(opened, layer, 400_000, 10);
    const index = await openNodeIndex(opened.paths.index);
    onTestFinished(() => index.close());
    const options = { pace: async () => {}, signal: new AbortController().signal, found: () => {} };
    const damaged = (repair: boolean) => checkWindows(index, opened.paths, { ...options, repair });
    expect(await damaged(false)).toBe(0);
    const kept = await readFile(opened.paths.windows);
    flipBit(
      opened.paths.windows,
      kept.findIndex((byte) => byte !== 0),
    );
    expect([await damaged(false), await damaged(true), await damaged(false)]).toEqual([1, 1, 0]);
  });

  it('drops its windows when it is complete, also those that a crash left', async () => {
    const { layer, made, lab: node } = await lab();
    const opened = await node.openBy(layer, offering(made.index));
    await expectRead(opened, layer, 400_000, 10);
    expect((await stat(opened.paths.windows)).size).toBeGreaterThan(0);
    await opened.fillCache({ signal: AbortSignal.timeout(20_000) });
    await opened.close();
    await expect(stat(opened.paths.windows)).rejects.toMatchObject({ code: 'ENOENT' });
    await writeFile(opened.paths.windows, 'left behind');
    const again = await node.openBy(layer, offering());
    await expectRead(again, layer, 0, layer.tar.length);
    await again.close();
    await expect(stat(opened.paths.windows)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('keeps its windows over a restart', async () => {
    const { layer, made, lab: node, windows } = await lab();
    const first = await node.openBy(layer, offering(made.index));
    await expectRead(first, layer, 400_000, 10);
    await first.close();
    const [asked] = node.front.seen(windows);
    node.front.forget();
    const second = await node.openBy(layer, offering());
    // The span behind it, whose window came along.
    await expectRead(second, layer, 400_000 + spanSize, 10);
    expect(asked?.range).toMatch(/^bytes=/);
    expect(node.front.seen(layer.descriptor.digest)).toHaveLength(1);
    expect(node.front.seen(windows)).toEqual([]);
  });

  it('asks nobody for windows that the node has', async () => {
    const { layer, made, lab: node, windows } = await lab();
    const index = { ...made.index, findWindows: async () => made.windows?.blob.bytes };
    const opened = await node.openBy(layer, offering(index));
    await expectRead(opened, layer, 0, layer.tar.length);
    expect(node.front.seen(windows)).toEqual([]);
  });

  it('has no windows when it is not compressed', async () => {
    const layer = labLayer(tarOf({ path: 'a', data: randomBytes(300_000) }));
    const made = await peelLayer(layer, { spanSize });
    expect(made.windows).toBeUndefined();
    const node = await LayerLab.start();
    const opened = await node.openBy(layer, offering(made.index), { indexRequired: true });
    await expectRead(opened, layer, 200_000, 100);
    expect(node.front.bytes(layer.descriptor.digest)).toBe(spanSize);
    await expect(stat(opened.paths.windows)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('is read lazily when it is zstd in many frames', async () => {
    const tar = tarOf({ path: 'a', data: text(300_000) }, { path: 'b', data: randomBytes(200_000) });
    const skippable = Buffer.from([0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
    const frames = Array.from({ length: Math.ceil(tar.length / spanSize) }, (_, i) => {
      const plain = tar.subarray(i * spanSize, (i + 1) * spanSize);
      const half = plain.length >> 1;
      const zstd = (input: Buffer) => execFileSync('zstd', ['-q', '-c'], { input });
      return Buffer.concat([zstd(plain.subarray(0, half)), skippable, zstd(plain.subarray(half))]);
    });
    const blob = Buffer.concat(frames);
    const layer: LabLayer = {
      tar,
      blob,
      descriptor: { mediaType: 'application/vnd.oci.image.layer.v1.tar+zstd', digest: sha256(blob), size: blob.length },
      diffId: sha256(tar),
    };
    const made = await peelLayer(layer, { spanSize, frames: frames.map(({ length }) => length) });
    const node = await LayerLab.start();
    const opened = await node.openBy(layer, offering(made.index), { indexRequired: true });
    await expectRead(opened, layer, 100_000, 100);
    expect(node.front.bytes(layer.descriptor.digest)).toBe(frames[1]?.length);
    await opened.close();
    const again = await node.openBy(layer, offering());
    expect(again.complete).toBe(false);
    await again.fillCache({ signal: AbortSignal.timeout(20_000) });
    await expectRead(again, layer, 0, tar.length);
    expect(again.complete).toBe(true);
  });
});

describe('windows that the registry', () => {
  it('cannot give for a moment are asked for again', async () => {
    const { layer, made, lab: node, windows } = await lab();
    const opened = await node.openBy(layer, offering(made.index));
    let times = 0;
    node.front.interfere(forBlob(windows), (request, response, forward, ask) => {
      times += 1;
      if (times > 3) forward();
      else answer(503)(request, response, forward, ask);
    });
    await expectRead(opened, layer, 500_000, 1000);
    expect(times).toBeGreaterThan(3);
    expect(node.row(layer)?.suspect).toBeUndefined();
  });

  it('has no more end the read, but not what begins where no window is needed', async () => {
    const { layer, made, lab: node } = await lab(madeLayer('b'), { readDeadlineMs: 30_000 });
    const opened = await node.openBy(layer, offering(made.index));
    if (made.windows !== undefined) await node.deleteBlob(made.windows.content);
    const started = performance.now();
    await expect(opened.read(500_000, 10)).rejects.toMatchObject({ code: 'ERR_LAYER_FETCH' });
    expect(performance.now() - started).toBeLessThan(15_000);
    // The first span needs none, and each of the others can have its own from the one before.
    await expectRead(opened, layer, 0, 1000);
    await opened.fillCache({ signal: AbortSignal.timeout(20_000) });
    await expectRead(opened, layer, 0, layer.tar.length);
    expect(opened.complete).toBe(true);
  });

  it('never answers for end the read at its deadline', async () => {
    const { layer, made, lab: node, windows } = await lab(madeLayer('c'), { readDeadlineMs: 600 });
    const opened = await node.openBy(layer, offering(made.index));
    node.front.interfere(forBlob(windows), () => {});
    const started = performance.now();
    await expect(opened.read(500_000, 10)).rejects.toMatchObject({ code: 'ERR_LAYER_FETCH' });
    expect(performance.now() - started).toBeLessThan(5_000);
  });

  it('has wrong ones of end the read, and the layer is made anew', async () => {
    const { layer, made, lab: node, windows } = await lab(madeLayer('d'));
    const opened = await node.openBy(layer, offering(made.index));
    const stop = node.front.interfere(forBlob(windows), (_request, response, _forward, ask) => {
      void ask().then(({ status, headers, body }) =>
        response.writeHead(status, headers).end(body.map((byte, i) => (i % 50 === 7 ? ~byte : byte))),
      );
    });
    await expect(opened.read(500_000, 10)).rejects.toMatchObject({ code: 'ERR_LAYER_FETCH' });
    // Once more, in case it was damaged on the way.
    expect(node.front.seen(windows)).toHaveLength(2);
    expect(node.row(layer)?.suspect).toMatch(/the window of span \d+/);
    stop();
    await opened.close();
    const again = await node.openBy(layer, offering(made.index));
    expect(again.row.indexFormat).toBe('node');
    await expectRead(again, layer, 0, layer.tar.length);
  });
});

describe('an index that cannot be used', () => {
  const good = madeLayer('e');
  const other = madeLayer('f');

  async function wrongOnes(): Promise<readonly (readonly [RegExp, PeelLayer['index']])[]> {
    const right = await peelLayer(good, { spanSize });
    const [lying, elsewhere, plain] = await Promise.all([
      peelLayer(good, { spanSize, claims: { layer: other.descriptor.digest } }),
      peelLayer(good, { spanSize, claims: { diffId: other.diffId } }),
      peelLayer(good, { spanSize: good.tar.length, frames: [good.blob.length] }),
    ]);
    const short = { ...good, blob: gzipSync(good.tar, { level: 1 }) };
    const resized = await peelLayer(short, { spanSize, claims: { layer: good.descriptor.digest } });
    const damaged = Buffer.from(right.table.bytes);
    damaged[damaged.length >> 1] = ~(damaged[damaged.length >> 1] ?? 0);
    const descriptor = right.index.windows;
    const loading = (bytes: Uint8Array) => ({ ...right.index, load: async () => bytes });
    const named = (index: PeelLayer['index'], i: number) => ({ ...index, digest: sha256(Buffer.from(`${i}`)) });
    const all: (readonly [RegExp, PeelLayer['index']])[] = [
      [/it is for layer sha256/, lying.index],
      [/diffID/, elsewhere.index],
      [/of kind zstd-frame, but the layer is/, plain.index],
      [/bytes, but the manifest says/, resized.index],
      [/damaged/, loading(damaged)],
      [/peel table ends|not a peel table/, loading(damaged.subarray(0, 5))],
      [/windows have \d+ bytes/, { ...right.index, windows: undefined }],
      [/windows have/, { ...right.index, windows: descriptor && { ...descriptor, size: descriptor.size + 1 } }],
      [/nowhere/, { ...right.index, findWindows: () => Promise.reject(new Error('nowhere')) }],
    ];
    return all.map(([why, index], i) => [why, named(index, i)] as const);
  }

  it('is said once, and the next one is tried', async () => {
    const wrong = await wrongOnes();
    const { made, lab: node } = await lab(good);
    const warnings: string[] = [];
    const opened = await node.openBy(good, offering(...wrong.map(([, index]) => index), made.index), {
      indexRequired: true,
      onWarning: (message) => warnings.push(message),
    });
    expect(opened.row.indexDigest).toBe(made.index.digest);
    expect(warnings).toHaveLength(wrong.length);
    for (const [i, [why]] of wrong.entries()) {
      expect(warnings[i]).toMatch(why);
      expect(warnings[i]).toContain(`${wrong[i + 1]?.[1].digest ?? made.index.digest} (peel) is tried next`);
    }
    await expectRead(opened, good, 500_000, 100);
  });

  it('leaves the whole layer, or an error where one is required', async () => {
    const [first] = await wrongOnes();
    const { lab: node } = await lab(good);
    const index = first?.[1];
    if (index === undefined) throw new Error('there is one');
    // The same over and over is no other one; an error about the next is not worth more than the first.
    const offers = [
      async () => ({ index, reason: '' }),
      async (attempt: number) => {
        if (attempt > 0) throw new Error('the registry is away');
        return { index, reason: '' };
      },
      offering(index),
    ];
    for (const findIndex of offers) {
      const refused = node.openBy(good, findIndex, { indexRequired: true });
      await expect(refused).rejects.toMatchObject({
        code: 'ERR_LAYER_INDEX',
        message: expect.stringMatching(/peel table .* cannot be used: it is for layer/),
      });
    }
    const warnings: string[] = [];
    const opened = await node.openBy(good, offering(index), { onWarning: (message) => warnings.push(message) });
    expect(warnings).toEqual([expect.stringMatching(/it is for layer .*; it is downloaded whole$/)]);
    expect(opened.complete).toBe(true);
    expect(opened.row).toMatchObject({ indexFormat: 'node', reason: expect.stringContaining('cannot be used') });
    await expectRead(opened, good, 0, good.tar.length);
  });
});
