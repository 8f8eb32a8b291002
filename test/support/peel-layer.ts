// What a peel index would offer of one layer, made of the layer's blob.
import { createHash } from 'node:crypto';
import { buildLayerIndex } from '../../src/index/builder.ts';
import { peelTableType, peelWindowsType } from '../../src/index/peel-names.ts';
import { writePeelTable } from '../../src/index/peel-table-writer.ts';
import { SpanColumns } from '../../src/index/span-columns.ts';
import type { OpenLayerRequest, RemotePeelIndex } from '../../src/layer/layer-store.ts';
import { archiveTree } from '../../src/tree/archive-tree.ts';
import { writeErofs } from '../../src/tree/erofs-writer.ts';
import { chunked } from '../index/layers.ts';
import { type LabLayer, sha256 } from './image-lab.ts';
import { type Content, content } from './registry-content.ts';
import { type WindowBlob, windowBlobOf } from './window-blob.ts';
import { windowFrame } from './window-frame.ts';

export interface PeelLayerOptions {
  readonly spanSize: number;
  /** zstd: blob bytes of each frame, each a span. */
  readonly frames?: readonly number[];
  /** What the table says of it instead. */
  readonly claims?: Partial<Pick<LabLayer, 'diffId'> & { readonly layer: LabLayer['diffId'] }>;
}

export interface PeelLayer {
  readonly table: Content;
  /** Undefined for a layer that needs none. */
  readonly windows: (WindowBlob & { readonly content: Content }) | undefined;
  readonly spans: SpanColumns;
  readonly index: RemotePeelIndex;
}

/** Its windows are whole, not sparse. */
export async function peelLayer(layer: LabLayer, options: PeelLayerOptions): Promise<PeelLayer> {
  const { spanSize, frames, claims } = options;
  const build = await buildLayerIndex(chunked(layer.blob), { spanSize });
  const spans = frames === undefined ? build.spans : zstdSpans(layer, frames, spanSize);
  const plain = await Promise.all(Array.from({ length: spans.count }, (_, i) => spans.window(i)));
  const made = windowBlobOf(
    plain.map((window) => window && windowFrame(window)),
    plain,
  );
  const tree = writeErofs(archiveTree(build.entries, { streamSize: build.streamSize }));
  const table = content(
    writePeelTable({
      layer: claims?.layer ?? layer.descriptor.digest,
      diffId: claims?.diffId ?? layer.diffId,
      spans,
      windows: made.windows,
      tree,
    }),
    peelTableType,
  );
  const windows = made.windows.size === 0 ? undefined : { ...made, content: content(made.blob.bytes, peelWindowsType) };
  const index: RemotePeelIndex = {
    format: 'peel',
    digest: sha256(createHash('sha256').update(table.descriptor.digest).digest()),
    source: 'lab',
    table: table.descriptor,
    windows: windows?.content.descriptor,
    load: async () => table.bytes,
    findWindows: async () => undefined,
  };
  return { table, windows, spans, index };
}

/** Offers these indexes one after the other. */
export function offering(...indexes: readonly RemotePeelIndex[]): OpenLayerRequest['findIndex'] {
  return async (attempt) => ({ index: indexes[attempt], reason: 'nothing else is offered' });
}

function zstdSpans(layer: LabLayer, frames: readonly number[], spanSize: number): SpanColumns {
  const blobStarts = new Float64Array(frames.length);
  const streamStarts = new Float64Array(frames.length);
  const digests = new Uint8Array(32 * frames.length);
  let at = 0;
  for (const [i, size] of frames.entries()) {
    blobStarts[i] = at;
    streamStarts[i] = i * spanSize;
    digests.set(
      createHash('sha256')
        .update(layer.blob.subarray(at, at + size))
        .digest(),
      32 * i,
    );
    at += size;
  }
  return new SpanColumns(
    {
      decoder: 'zstd-frame',
      blobSize: layer.blob.length,
      streamSize: layer.tar.length,
      openEnded: false,
      spanSize,
      streamStarts,
      blobStarts,
      sha256: digests,
    },
    'test',
  );
}
