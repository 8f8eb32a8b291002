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

  add(key: string, job: ReadyJob): void {
    this.#ready.set(key, job);
  }

  /** Undefined when there is none, or it has expired. */
  find(key: string): UnpackedTree | undefined {
    const job = this.#ready.get(key);
    if (job === undefined) return undefined;
    if (isWaiting(job.handle)) return this.#tree(key, job);
    this.#ready.delete(key);
    return undefined;
  }

  #tree(key: string, { handle, settle }: ReadyJob): UnpackedTree {
    return {
      job: handle.job,
      layer: handle.row().layer,
      dir: handle.fsDir,
      ...handle.applied,
      claim: (take) => {
        const taken = handle.claim(take);
        // The transaction around it may still fail, and the tree is there for the next who asks then.
        setImmediate(() => {
          if (this.#ready.get(key)?.handle !== handle || isWaiting(handle)) return;
          this.#ready.delete(key);
          settle();
        });
        return taken;
      },
      release: () => {},
    };
  }
}

function isWaiting(handle: JobHandle): boolean {
  try {
    return handle.state === 'done';
  } catch (error) {
    if (errorCode(error) === 'ERR_UNPACK_JOB_UNKNOWN') return false;
    throw error;
  }
}
