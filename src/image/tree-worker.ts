// Worker thread: index files in, compiled tree out. Its heap, which holds all entries of an image, goes with it.
import { parentPort, workerData } from 'node:worker_threads';
import { openNodeIndex } from '../index/node-index.ts';
import { compileTree } from '../tree/compile.ts';
import type { LayerEntries } from '../tree/merge.ts';
import { writeWhole } from '../util/write-whole.ts';

export interface TreeJob {
  /** Where the compiled tree goes. */
  readonly out: string;
  readonly blockSize: 512 | 4096;
  /** Lowest first. */
  readonly layers: readonly { readonly index: string; readonly streamSize: number }[];
}

export interface TreeJobResult {
  /** Undefined: done. */
  readonly error: string | undefined;
}

async function work(job: TreeJob): Promise<void> {
  const layers: LayerEntries[] = [];
  for (const { index, streamSize } of job.layers) {
    const opened = await openNodeIndex(index);
    layers.push({ entries: opened.entries, streamSize });
    await opened.close();
  }
  const { image } = compileTree(layers, { blockSize: job.blockSize });
  await writeWhole(job.out, [image]);
}

function report(error: string | undefined): void {
  const result: TreeJobResult = { error };
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread's port, not a window
  parentPort?.postMessage(result);
}

try {
  await work(workerData as TreeJob);
  report(undefined);
} catch (error) {
  report(error instanceof Error ? error.message : String(error));
}
