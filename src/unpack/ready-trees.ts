import { errorCode } from '../layer/errors.ts';
import type { JobHandle } from './job-handle.ts';
import type { UnpackedTree } from './unpacker.ts';

export interface ReadyJob {
  readonly handle: JobHandle;
  /** Done once, when the tree is in use. */
  readonly settle: () => void;
}

/** Trees that wait for somebody to take them, by what they are. */
export class ReadyTrees {
  readonly #ready = new Map<string, ReadyJob>();
  readonly #settled = new WeakSet<ReadyJob>();

  add(key: string, job: ReadyJob): void {
    this.#ready.set(key, job);
  }

  /** Undefined when there is none, or it was taken, is gone or has expired. */
  find(key: string): UnpackedTree | undefined {
    const job = this.#ready.get(key);
    if (job === undefined) return undefined;
    const state = stateOf(job.handle);
    if (state === 'done' && job.handle.hasTree) return this.#tree(key, job);
    this.#ready.delete(key);
    // Somebody moved the tree and did not take it after all: the job is done anew.
    if (state === 'done') job.handle.close();
    return undefined;
  }

  #tree(key: string, job: ReadyJob): UnpackedTree {
    const { handle } = job;
    return {
      job: handle.job,
      layer: handle.row().layer,
      dir: handle.fsDir,
      ...handle.applied,
      claim: (take) => {
        const taken = handle.claim(take);
        // The transaction around it may still fail, and the tree is there for the next who asks then.
        setImmediate(() => this.#taken(key, job));
        return taken;
      },
      release: () => {},
    };
  }

  #taken(key: string, job: ReadyJob): void {
    if (this.#settled.has(job) || stateOf(job.handle) !== 'claimed') return;
    this.#settled.add(job);
    if (this.#ready.get(key) === job) this.#ready.delete(key);
    job.settle();
  }
}

/** Undefined when the job is gone or not ours any more. */
function stateOf(handle: JobHandle): JobHandle['state'] | undefined {
  if (!handle.isOpen) return undefined;
  try {
    return handle.state;
  } catch (error) {
    if (errorCode(error) === 'ERR_UNPACK_JOB_UNKNOWN') return undefined;
    throw error;
  }
}
