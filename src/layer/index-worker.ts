// Worker thread: one job after the other, indexes in, index files and compiled trees out. All entries of an image are in its heap meanwhile.
import { getHeapStatistics } from 'node:v8';
import { parentPort, workerData } from 'node:worker_threads';
import type { IndexJob, IndexJobFailure, IndexJobResult } from './index-job.ts';
import { failureOf, runIndexJob } from './run-index-job.ts';

export interface IndexWorkerData {
  readonly heapBytes: number;
}

export type IndexWorkerAnswer = {
  /** Its heap has grown so much that it had better not wait for another job. */
  readonly spent: boolean;
} & ({ readonly result: IndexJobResult } | { readonly failure: IndexJobFailure });

const { heapBytes } = workerData as IndexWorkerData;

async function work(job: IndexJob): Promise<void> {
  const moved: ArrayBuffer[] = [];
  let done: { readonly result: IndexJobResult } | { readonly failure: IndexJobFailure };
  try {
    const result = await runIndexJob(job);
    if ('image' in result) moved.push(result.image.buffer);
    if ('file' in result) {
      moved.push(result.file.buffer);
      if (result.tree !== undefined) moved.push(result.tree.image.buffer);
    }
    done = { result };
  } catch (error) {
    done = { failure: failureOf(error) };
  }
  const answer: IndexWorkerAnswer = { ...done, spent: getHeapStatistics().total_heap_size > heapBytes };
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread's port, not a window
  parentPort?.postMessage(answer, moved);
}

parentPort?.on('message', (job: IndexJob) => void work(job));
