import type { SpanSink } from '../../src/layer/span-transfer.ts';
import type { DecodeRequest } from '../../src/native/layer-cache.ts';

/** A sink's `decodeRun` of what decodes one span. The stream behind one is never known, so that each but the first of a run ends it. */
export function decodeRuns(decode: (request: DecodeRequest) => Promise<unknown>): SpanSink['decodeRun'] {
  return async ({ first, bits, bounds, data, sha256, window, ...rest }) => {
    if (window === 'cached') return { present: 0, error: Object.assign(new Error('not kept'), { code: 'ENODATA' }) };
    const [from, to] = [bounds[0] ?? 0, bounds[1] ?? 0];
    const isLast = bits.length === 1;
    try {
      await decode({
        ...rest,
        window,
        span: first,
        bits: bits[0] ?? 0,
        data: data.subarray(from, to),
        sha256: sha256?.subarray(0, 32),
        openEnded: rest.openEnded && isLast,
      });
      return { present: 1 };
    } catch (error) {
      return { present: 0, error: error as Error };
    }
  };
}
