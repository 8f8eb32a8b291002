// Worker thread: one job after the other, index files in, compiled trees out. All entries of an image are in its heap meanwhile.
import { parentPort } from 'node:worker_threads';
import { failureOf, runTreeJob } from './run-tree-job.ts';
import type { TreeJob, TreeJobFailure, TreeJobResult } from './tree-job.ts';

export type TreeWorkerAnswer = { readonly result: TreeJobResult } | { readonly failure: TreeJobFailure };

async function work(job: TreeJob): Promise<void> {
  let answer: TreeWorkerAnswer;
  const moved: ArrayBuffer[] = [];
  try {
    const result = await runTreeJob(job);
    if ('image' in result) moved.push(result.image.buffer);
    answer = { result };
  } catch (error) {
    answer = { failure: failureOf(error) };
  }
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread's port, not a window
  parentPort?.postMessage(answer, moved);
}

parentPort?.on('message', (job: TreeJob) => void work(job));
