import { describe, expect, it } from 'vitest';
import { SpanColumns } from '../../src/index/span-columns.ts';
import { fillLayer } from '../../src/layer/fill-layer.ts';
import { Deferred } from '../../src/util/deferred.ts';

const mib = 1 << 20;
const signal = new AbortController().signal;

function table(count: number, spanSize: number, streamSize = count * spanSize): SpanColumns {
  const starts = Float64Array.from({ length: count }, (_, i) => i * spanSize);
  const sizes = { blobSize: count * spanSize, streamSize, spanSize, streamStarts: starts, blobStarts: starts };
  return new SpanColumns({ decoder: 'gzip-member', openEnded: false, ...sizes }, 'test');
}

const late = () => Object.assign(new Error('no answer in time'), { code: 'ERR_LAYER_FETCH' });

describe('fillLayer', () => {
  it('asks for so much ahead, and for more as the stream is there', async () => {
    const spans = table(60, 4 * mib);
    const coming = new Map<number, Deferred<void>>();
    const offsets: number[] = [];
    const filled = fillLayer(
      { spans, bring: (span) => coming.set(span, new Deferred()).get(span)?.promise ?? Promise.reject(new Error()) },
      { signal, onProgress: (offset) => offsets.push(offset) },
    );
    const asked = async () => {
      await new Promise(setImmediate);
      return coming.size;
    };
    expect(await asked()).toBe(16);
    // Not the first one: the stream is not there.
    for (let span = 1; span < 16; span += 1) coming.get(span)?.resolve();
    expect(await asked()).toBe(16);
    expect(offsets).toEqual([]);
    coming.get(0)?.resolve();
    // Once less than 32 MiB were on their way, up to 64 again.
    expect(await asked()).toBe(25);
    expect(offsets).toEqual(Array.from({ length: 16 }, (_, i) => (i + 1) * 4 * mib));
    for (let span = 16; span < 60; span += 1) {
      await asked();
      coming.get(span)?.resolve();
    }
    await filled;
    expect(offsets.at(-1)).toBe(60 * 4 * mib);
  });

  it('brings a span that is larger than all it asks for ahead, and an empty one at the end', async () => {
    const brought: number[] = [];
    const bring = async (span: number) => void brought.push(span);
    await fillLayer({ spans: table(2, 200 * mib), bring }, { signal });
    await fillLayer({ spans: table(3, mib, 2 * mib), bring }, { signal });
    expect(brought).toEqual([0, 1, 0, 1, 2]);
  });

  it('asks again for what was given up as long as something comes, but not for ever', async () => {
    const tries = [0, 0, 0];
    const bring = (failures: number) => async (span: number) => {
      tries[span] = (tries[span] ?? 0) + 1;
      // The others come while this one is being waited for.
      await new Promise((resolve) => setTimeout(resolve, span === 1 ? 10 * (tries[1] ?? 0) : 3 * span + 5));
      if (span === 1 && (tries[1] ?? 0) <= failures) throw late();
    };
    await fillLayer({ spans: table(3, mib), bring: bring(1) }, { signal });
    expect(tries).toEqual([1, 2, 1]);
    tries.fill(0);
    await expect(fillLayer({ spans: table(3, mib), bring: bring(9) }, { signal })).rejects.toThrow('no answer in time');
    // The second time nothing had come meanwhile.
    expect(tries[1]).toBeLessThanOrEqual(3);
  });

  it('does not ask again for bytes that are wrong', async () => {
    let asked = 0;
    const bring = async (span: number) => {
      if (span === 0) return;
      asked += 1;
      throw Object.assign(new Error('wrong'), { code: 'ERR_SPAN_DIGEST' });
    };
    await expect(fillLayer({ spans: table(2, mib), bring }, { signal })).rejects.toThrow('wrong');
    expect(asked).toBe(1);
  });

  it('stops with the reason of its signal', async () => {
    const controller = new AbortController();
    const bring = () => new Promise<void>(() => {});
    const filled = fillLayer({ spans: table(3, mib), bring }, { signal: controller.signal });
    controller.abort(new Error('enough'));
    await expect(filled).rejects.toThrow('enough');
  });
});
