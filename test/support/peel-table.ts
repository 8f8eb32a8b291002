// The table and the windows of a lab's layer, of spans as a zTOC has them: with whole windows, which a reader takes as well.
import { createHash } from 'node:crypto';
import { buildLayerIndex } from '../../src/index/builder.ts';
import { writePeelTable } from '../../src/index/peel-table-writer.ts';
import { archiveTree } from '../../src/tree/archive-tree.ts';
import { writeErofs } from '../../src/tree/erofs-writer.ts';
import { chunked } from '../index/layers.ts';
import type { LabLayer } from './image-lab.ts';
import type { PeelLayerFiles } from './peel-index.ts';
import { windowFrame } from './window-frame.ts';

export async function peelTableOf({ blob, descriptor }: LabLayer, spanSize: number): Promise<PeelLayerFiles> {
  const { entries, spans, diffId } = await buildLayerIndex(chunked(blob), { spanSize });
  const lengths = new Uint32Array(spans.count);
  const sha256 = new Uint8Array(32 * spans.count);
  const frames: Uint8Array[] = [];
  for (let i = 1; i < spans.count; i++) {
    const window = await spans.window(i);
    if (window === undefined) continue;
    const frame = windowFrame(window);
    frames.push(frame);
    lengths[i] = frame.length;
    sha256.set(createHash('sha256').update(frame).digest(), 32 * i);
  }
  const tree = writeErofs(archiveTree(entries, { streamSize: spans.streamSize }));
  const layer = descriptor.digest;
  const table = writePeelTable({ layer, diffId, spans, windows: { lengths, sha256 }, tree });
  return { layer, table, windows: frames.length > 0 ? Buffer.concat(frames) : undefined };
}
