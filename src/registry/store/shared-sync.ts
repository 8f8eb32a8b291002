import { open } from 'node:fs/promises';

interface Round {
  begun: boolean;
  readonly done: Promise<void>;
}

/** Syncs directories for many at once: who asks while one is being synced shares the next sync of it with all others who come until it begins. */
export class SharedSync {
  readonly #work: (dir: string) => Promise<void>;
  readonly #rounds = new Map<string, Round>();

  constructor(work: (dir: string) => Promise<void> = syncNow) {
    this.#work = work;
  }

  /** Directories that are being synced or wait for it. */
  get size(): number {
    return this.#rounds.size;
  }

  /** Resolves after a sync that began after this call. Errors: those of that sync, for all who share it. */
  async sync(dir: string): Promise<void> {
    const last = this.#rounds.get(dir);
    // One that has begun may have missed what this caller changed.
    const round = last?.begun === false ? last : this.#start(dir, last);
    await round.done;
  }

  #start(dir: string, last: Round | undefined): Round {
    const run = async () => {
      // That the one before failed is told to those who waited for it.
      await last?.done.catch(() => {});
      round.begun = true;
      try {
        await this.#work(dir);
      } finally {
        if (this.#rounds.get(dir) === round) this.#rounds.delete(dir);
      }
    };
    const round: Round = { begun: false, done: Promise.resolve().then(run) };
    this.#rounds.set(dir, round);
    return round;
  }
}

async function syncNow(dir: string): Promise<void> {
  const handle = await open(dir, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
