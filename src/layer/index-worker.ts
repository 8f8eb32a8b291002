// Worker thread: one job after the other, indexes in, index files and compiled trees out. All entries of an image are in its heap meanwhile.
import { getHeapStatistics } from 'node:v8';
import { parentPort, workerData } from 'node:worker_threads';
import type { IndexJob, IndexJobFailure, IndexJobResult, TableJob } from './index-job.ts';
import { failureOf, runIndexJob } from './run-index-job.ts';
import type { WarmAnswer, WarmRequest } from './warm-threads.ts';

export interface IndexWorkerData {
  readonly heapBytes: number;
}

export type IndexWorkerAnswer = {
  /** Its heap has grown so much that it had better not wait for another job. */
  readonly spent: boolean;
} & ({ readonly result: IndexJobResult } | { readonly failure: IndexJobFailure });

const { heapBytes } = workerData as IndexWorkerData;

/** ms of work after which it looks whether there is a job. */
const warmSliceMs = 50;
const warmRounds = 32;
let sample: TableJob | undefined;
let rounds = 0;

async function work(job: IndexJob): Promise<void> {
  // What comes warms it as well, and from now on others have better use for the processor.
  rounds = warmRounds;
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

async function warm(): Promise<void> {
  const { sampleJob } = await import('./sample-job.ts');
  sample ??= sampleJob();
  for (const end = performance.now() + warmSliceMs; performance.now() < end && rounds < warmRounds; rounds += 1)
    await runIndexJob(sample);
  const answer: WarmAnswer = { isWarm: rounds === warmRounds };
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread's port, not a window
  parentPort?.postMessage(answer);
}

parentPort?.on('message', (job: IndexJob | WarmRequest) => void (job.kind === 'warm' ? warm() : work(job)));
