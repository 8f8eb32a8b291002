// What is left to do for a layer whose tree is in use: nobody waits for it any more.
import { createReadStream } from 'node:fs';
import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { encodeNodeIndex } from '../index/node-index-writer.ts';
import type { LayerBuild } from '../index/layer-build.ts';
import { errorMessage } from '../layer/errors.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { writeWhole } from '../util/write-whole.ts';
import type { LocalBlobs } from './blob-feed.ts';
import type { JobParts } from './run-job.ts';

export interface SettledJob {
  readonly folder: string;
  readonly descriptor: Descriptor;
  readonly diffId: Digest;
  /** Who keeps compressed layers; undefined: the state directory. */
  readonly local: LocalBlobs | undefined;
}

const reason = 'unpacked on this node';

/** Writes the index of a layer that was decoded; with `data` in the same folder it makes the layer a complete one. Errors: errno codes. */
export async function keepIndex(
  build: LayerBuild,
  folder: string,
  options: { readonly signal: AbortSignal },
): Promise<void> {
  const { blobDigest, diffId } = build;
  const index = await encodeNodeIndex(build, { format: 'node', source: reason, blobDigest, diffId }, options);
  await writeWhole(join(folder, 'index'), index.pieces);
}

/** Keeps what is to be kept of the job's folder, which is of no use afterwards. What cannot be kept is logged. Rejects with the signal's reason. */
export async function settleJob(
  parts: JobParts,
  job: SettledJob,
  { signal }: { readonly signal: AbortSignal },
): Promise<void> {
  const { descriptor } = job;
  const steps = [
    ['keep the compressed layer', () => keepBlob(parts, job)],
    ['keep the layer in the block cache', () => keepStream(parts, job, signal)],
    ['hand the compressed layer on', () => handOn(parts, job, signal)],
  ] as const;
  for (const [what, step] of steps) {
    try {
      await step();
    } catch (error) {
      signal.throwIfAborted();
      parts.log.warn({ layer: descriptor.digest, error: errorMessage(error) }, `cannot ${what}`);
    }
  }
}

async function keepBlob({ settings, compressed }: JobParts, { folder, descriptor }: SettledJob): Promise<void> {
  const blob = join(folder, 'blob');
  if (!(await isThere(blob))) return;
  if (settings.keepCompressed) await compressed.keep(descriptor.digest, blob);
  else await rm(blob, { force: true });
}

async function keepStream({ settings, store, log }: JobParts, job: SettledJob, signal: AbortSignal): Promise<void> {
  const { folder, descriptor, diffId } = job;
  const [data, index] = [join(folder, 'data'), join(folder, 'index')];
  if (!settings.fillCache || !(await isThere(data)) || !(await isThere(index))) return;
  const kept = await store.keepWhole({ descriptor, diffId, data, index, reason }, { signal });
  if (kept) log.debug({ layer: descriptor.digest }, 'layer is complete in the block cache');
}

/** Two copies of a blob would be one too many. */
async function handOn({ settings, compressed, log }: JobParts, job: SettledJob, signal: AbortSignal): Promise<void> {
  const { descriptor, local } = job;
  if (local?.keep === undefined || !settings.keepCompressed || !(await compressed.has(descriptor))) return;
  await local.keep(
    descriptor,
    async (start) => {
      const body = createReadStream(compressed.path(descriptor.digest), { start, highWaterMark: 1 << 20 });
      return { body, close: () => body.destroy() };
    },
    { signal },
  );
  await compressed.remove(descriptor.digest);
  log.debug({ layer: descriptor.digest, where: local.name }, 'compressed layer is kept elsewhere');
}

async function isThere(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  );
}
