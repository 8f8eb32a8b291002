// One job: a layer from its blob to a verified tree in the job's folder.
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { LayerBuild } from '../index/layer-build.ts';
import { TreeWriter } from '../native/tree-writer.ts';
import { removeTree } from '../util/remove-tree.ts';
import { LayerApplier } from './apply/layer-applier.ts';
import type { AppliedLayers } from './apply/layer-applier.ts';
import type { BlobFeed } from './blob-feed.ts';
import { findBlob } from './find-blob.ts';
import type { BlobPlaces } from './find-blob.ts';
import { passLayer } from './pass-layer.ts';
import type { PassParts } from './pass-layer.ts';
import { isWorthAnotherTry, unpackFailure } from './unpack-failure.ts';
import type { UnpackLayerRequest } from './unpacker.ts';

export type JobParts = PassParts & BlobPlaces;

export interface FinishedTree {
  readonly applied: AppliedLayers;
  /** Undefined when the layer was there with an index. */
  readonly build: LayerBuild | undefined;
}

const attempts = 2;

/** Where a job has the tree. */
export function treeIn(folder: string): string {
  return join(folder, 'fs');
}

/** Errors: UnpackError; the signal's reason. What was downloaded and is not known to be wrong stays in the folder. */
export async function runJob(
  parts: JobParts,
  request: UnpackLayerRequest,
  folder: string,
  options: { readonly signal: AbortSignal },
): Promise<FinishedTree> {
  const { digest } = request.descriptor;
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await tryJob(parts, request, folder, options);
    } catch (error) {
      options.signal.throwIfAborted();
      const failure = unpackFailure(error, digest);
      if (!isWorthAnotherTry(failure)) throw failure;
      await forgetBlob(parts, request, folder);
      if (attempt === attempts) throw failure;
      parts.log.warn({ layer: digest, error: failure }, 'layer came damaged, fetching it again');
    }
  }
}

async function tryJob(
  parts: JobParts,
  request: UnpackLayerRequest,
  folder: string,
  { signal }: { readonly signal: AbortSignal },
): Promise<FinishedTree> {
  const { descriptor, diffId, form } = request;
  const dir = treeIn(folder);
  await removeTree(dir);
  await mkdir(dir, { mode: 0o700 });
  const writer = TreeWriter.open(dir, { ownership: 'entries' });
  let feed: Promise<BlobFeed> | undefined;
  try {
    const layerName = `layer ${descriptor.digest}`;
    const applier = new LayerApplier({ submit: (ops) => writer.submit(ops), form, layerName });
    let finished: FinishedTree = { applied: { implied: [], hiding: [] }, build: undefined };
    await passLayer(parts, {
      descriptor,
      diffId,
      folder,
      blob: () => (feed ??= findBlob(parts, request, folder, { signal })),
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
    return finished;
  } finally {
    await writer.close();
    await feed?.then(
      (opened) => opened.close(),
      () => {},
    );
  }
}

/** It is wrong, whatever its chunks' record says. */
export async function forgetBlob(
  { compressed }: Pick<JobParts, 'compressed'>,
  { descriptor }: Pick<UnpackLayerRequest, 'descriptor'>,
  folder: string,
): Promise<void> {
  await compressed.remove(descriptor.digest);
  for (const name of ['blob', 'chunks', 'data']) await rm(join(folder, name), { force: true });
}
