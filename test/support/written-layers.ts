// Layers unpacked onto the disk by the writer of trees.
import { mkdir, open } from 'node:fs/promises';
import { TreeWriter } from '../../src/native/tree-writer.ts';
import { readTar } from '../../src/tar/reader.ts';
import type { AppliedLayers } from '../../src/unpack/apply/layer-applier.ts';
import { applyLayers, type ApplyOptions } from './applied-layers.ts';

/** `dir` is made; each of `tars` is the path of a layer stream. Errors: those of the applier and of the writer. */
export async function writeLayers(dir: string, tars: readonly string[], options: ApplyOptions): Promise<AppliedLayers> {
  await mkdir(dir, { recursive: true });
  const writer = TreeWriter.open(dir, { ownership: 'entries' });
  try {
    const layers = [];
    for (const [stream, tar] of tars.entries()) {
      const file = await open(tar);
      try {
        const bytes = await file.readFile();
        writer.addStream(stream, file.fd);
        writer.advance(stream, bytes.length);
        layers.push({ entries: readTar(bytes) });
      } finally {
        await file.close();
      }
    }
    const applied = applyLayers(layers, options, (ops) => writer.submit(ops));
    await writer.finish({ signal: AbortSignal.timeout(60_000) });
    return applied;
  } finally {
    await writer.close();
  }
}
