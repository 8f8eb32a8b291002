// One job: a layer from its blob to a verified tree in the job's folder.
import { mkdir } from 'node:fs/promises';
import type { LayerBuild } from '../index/layer-build.ts';
import { TreeWriter } from '../native/tree-writer.ts';
import { removeTree } from '../util/remove-tree.ts';
import { LayerApplier } from './apply/layer-applier.ts';
import type { AppliedLayers } from './apply/layer-applier.ts';
import { clearJob, treeIn } from './clear-job.ts';
import { findBlob } from './find-blob.ts';
import type { BlobPlaces } from './find-blob.ts';
import { JobBlob } from './job-blob.ts';
import { passLayer } from './pass-layer.ts';
import type { PassParts } from './pass-layer.ts';
import { Retries, unpackFailure } from './unpack-failure.ts';
import type { Attempt } from './unpack-failure.ts';
import type { UnpackLayerRequest } from './unpacker.ts';

export type JobParts = PassParts & BlobPlaces;

export interface FinishedTree {
  readonly applied: AppliedLayers;
  /** Undefined when the layer was there with an index. */
  readonly build: LayerBuild | undefined;
}

/** Errors: UnpackError; the signal's reason. The caller clears the folder then. */
export async function runJob(
  parts: JobParts,
  request: UnpackLayerRequest,
  folder: string,
  options: { readonly signal: AbortSignal },
): Promise<FinishedTree> {
  const { digest } = request.descriptor;
  const retries = new Retries();
  for (;;) {
    try {
      return await tryJob(parts, request, folder, { ...retries.attempt, ...options });
    } catch (error) {
      options.signal.throwIfAborted();
      const failure = unpackFailure(error, digest);
      if (!retries.isWorthAnother(failure)) throw failure;
      await clearJob(parts, digest, folder, failure);
      parts.log.warn({ layer: digest, error: failure }, 'layer could not be unpacked, trying it in another way');
    }
  }
}

async function tryJob(
  parts: JobParts,
  request: UnpackLayerRequest,
  folder: string,
  { signal, index, local }: Attempt & { readonly signal: AbortSignal },
): Promise<FinishedTree> {
  const { descriptor, diffId, source, form } = request;
  const dir = treeIn(folder);
  await removeTree(dir);
  await mkdir(dir, { mode: 0o700 });
  const wanted = local === 'ask' ? request : { ...request, local: undefined };
  await using blob = new JobBlob(folder, () => findBlob(parts, wanted, folder, { signal }));
  const writer = TreeWriter.open(dir, { ownership: 'entries' });
  try {
    const layerName = `layer ${descriptor.digest}`;
    const applier = new LayerApplier({ submit: (ops) => writer.submit(ops), form, layerName });
    let finished: FinishedTree = { applied: { implied: [], hiding: [] }, build: undefined };
    await passLayer(parts, {
      descriptor,
      diffId,
      source,
      folder,
      blob: () => blob.open(),
      index,
      sink: {
        begin: (dataFd) => writer.addStream(0, dataFd),
        entries: (entries) => applier.take(entries),
        written: (offset) => writer.advance(0, offset),
      },
      whole: async (build) => {
        finished = { applied: applier.finish(), build };
        await writer.finish({ signal });
      },
      signal,
    });
    await blob.verified();
    return finished;
  } finally {
    await writer.close();
  }
}
