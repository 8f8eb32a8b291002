// Indexes that somebody else made of a layer, as a registry offers them.
import { createHash } from 'node:crypto';
import { buildLayerIndex } from '../../src/index/builder.ts';
import { ztocFromBuild } from '../../src/index/ztoc-from-build.ts';
import type { OpenLayerRequest } from '../../src/layer/layer-store.ts';
import { chunked } from '../index/layers.ts';
import { type LabLayer, sha256 } from './image-lab.ts';

export interface ForeignIndexOptions {
  readonly spanSize: number;
  readonly change?: ((ztoc: Uint8Array) => Uint8Array) | undefined;
}

/** Finds a zTOC of the layer, made of `of` where it lies about it. */
export async function foreignIndex(
  of: Pick<LabLayer, 'blob'>,
  { spanSize, change }: ForeignIndexOptions,
): Promise<OpenLayerRequest['findIndex']> {
  const build = await buildLayerIndex(chunked(of.blob), { spanSize });
  const made = ztocFromBuild(build, { buildTool: 'test' });
  if (made.ztoc === undefined) throw new Error(made.skipped);
  const ztoc = change?.(made.ztoc) ?? made.ztoc;
  const digest = sha256(ztoc);
  return async () => ({
    reason: '',
    index: {
      format: 'soci-v2',
      digest: sha256(createHash('sha256').update(digest).digest()),
      source: 'lab',
      ztoc: { mediaType: 'application/octet-stream', digest, size: ztoc.length },
      load: async () => ztoc,
    },
  });
}
