// A windows blob with a frame for some spans, and a source of it that answers as it is told to.
import { createHash, randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import type { RemoteWindows } from '../../src/index/peel-windows.ts';
import { windowSize } from '../../src/index/span-columns.ts';
import type { BlobSource } from '../../src/layer/blob-source.ts';
import { type Content, content } from './registry-content.ts';
import { windowFrame } from './window-frame.ts';

export interface WindowBlob {
  readonly blob: Content;
  readonly windows: RemoteWindows;
  /** Per span. */
  readonly plain: readonly (Uint8Array | undefined)[];
}

/** `sizes`: per span about how many bytes its frame has; 0 for none. */
export function windowBlob(sizes: readonly number[]): WindowBlob {
  const plain = sizes.map((size) => {
    if (size === 0) return undefined;
    const window = new Uint8Array(windowSize);
    window.set(randomBytes(Math.max(1, Math.min(windowSize, size - 14))), 100 % windowSize);
    return window;
  });
  return windowBlobOf(
    plain.map((window) => window && windowFrame(window)),
    plain,
  );
}

export function windowBlobOf(
  frames: readonly (Uint8Array | undefined)[],
  plain: readonly (Uint8Array | undefined)[] = [],
): WindowBlob {
  const blob = content(Buffer.concat(frames.filter((frame) => frame !== undefined)));
  const offsets = new Float64Array(frames.length);
  const lengths = new Uint32Array(frames.length);
  const sha256 = new Uint8Array(32 * frames.length);
  let at = 0;
  for (const [span, frame] of frames.entries()) {
    offsets[span] = at;
    lengths[span] = frame?.length ?? 0;
    at += frame?.length ?? 0;
    if (frame !== undefined) sha256.set(createHash('sha256').update(frame).digest(), 32 * span);
  }
  return { blob, plain, windows: { digest: blob.descriptor.digest, size: at, offsets, lengths, sha256 } };
}

export type RangeAnswer = (
  start: number,
  end: number,
  signal: AbortSignal,
) => AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

export interface CountingSource {
  readonly source: BlobSource;
  /** Ranges that were asked for, in order. */
  readonly requests: (readonly [start: number, end: number])[];
}

export function rangesOf(blob: Content, answer?: RangeAnswer): CountingSource {
  const requests: (readonly [number, number])[] = [];
  const source: BlobSource = {
    name: 'windows of the test',
    readAll: () => Promise.reject(new Error('not asked for')),
    readRange: async (start, end, { signal } = {}) => {
      requests.push([start, end]);
      const chunks = answer?.(start, end, signal ?? new AbortController().signal) ?? [blob.bytes.subarray(start, end)];
      const body = Readable.from(chunks, { objectMode: false });
      return { descriptor: blob.descriptor, body, close: () => void body.on('error', () => {}).destroy() };
    },
  };
  return { source, requests };
}
