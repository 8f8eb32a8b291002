// zTOCs of gzip layers that a hostile producer made: well-formed, but for one column, size, count or digest.
import { writeCheckpoints } from '../../src/index/checkpoints.ts';
import type { SpanTable } from '../../src/index/layer-index.ts';
import { windowSize } from '../../src/index/span-columns.ts';
import { writeZtoc } from '../../src/index/ztoc-writer.ts';
import { interesting, type Random } from '../support/damage.ts';
import { pick, spanSize, type Truth } from './damaged-layers.ts';

export async function forge({ build }: Truth, below: Random): Promise<Uint8Array> {
  const { spans, blobSize, tarEnd, entries } = build;
  const list = Array.from({ length: spans.count }, (_, i) => spans.span(i));
  const columns = {
    spanSize,
    in: Float64Array.from(list, ({ blobStart, bits }) => blobStart + (bits > 0 ? 1 : 0)),
    out: Float64Array.from(list, ({ streamStart }) => streamStart),
    bits: Uint8Array.from(list, ({ bits }) => bits),
    windows: await windowsOf(spans),
  };
  const digests = Buffer.concat(list.map(({ sha256 }) => sha256 ?? Buffer.alloc(32)));
  const init = {
    buildTool: 'forged',
    compression: 'gzip',
    compressedSize: blobSize,
    uncompressedSize: tarEnd,
  } as const;
  const offsets = below(2) === 0 ? columns.in : columns.out;
  const i = below(spans.count);
  let sizes: { compressedSize?: number; uncompressedSize?: number } = {};
  switch (below(10)) {
    case 0:
      offsets[i] = (offsets[i] as number) + pick([-513, -2, -1, 1, 2, 512, 4096], below);
      break;
    case 1:
      offsets[i] = offsets[below(spans.count)] as number;
      break;
    case 2:
      offsets[i] = pick([...interesting, 2 ** 44, 2 ** 53 - 1], below);
      break;
    case 3:
      columns.bits[i] = below(9);
      break;
    case 4:
      columns.windows.fill(below(256), windowSize * i + below(windowSize), windowSize * (i + 1));
      break;
    case 5:
      columns.windows.copyWithin(windowSize * i, windowSize * below(spans.count), windowSize * spans.count);
      break;
    case 6:
      sizes = { uncompressedSize: tarEnd + pick([-tarEnd, -70_000, -1, 1, 512, 100_000, 2 ** 40], below) };
      break;
    case 7:
      sizes = { compressedSize: Math.max(0, blobSize + pick([-30_000, -1, 1, 100_000, 2 ** 31], below)) };
      break;
    case 8:
      digests.copyWithin(32 * i, 32 * below(spans.count), 32 * spans.count);
      break;
    default:
      columns.spanSize = pick(interesting, below);
  }
  const table = writeCheckpoints(columns);
  // The count without its records, and records without their count.
  if (below(8) === 0)
    new DataView(table.buffer).setInt32(0, pick([0, 1, -1, spans.count + 1, spans.count - 1], below), true);
  return writeZtoc({ ...init, ...sizes, entries, checkpoints: table, spanSha256: digests });
}

async function windowsOf(spans: SpanTable): Promise<Buffer> {
  const windows: Uint8Array[] = [];
  for (let i = 0; i < spans.count; i++) windows.push((await spans.window(i)) ?? Buffer.alloc(windowSize));
  return Buffer.concat(windows);
}
