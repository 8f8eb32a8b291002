// Leases: counted permissions to download or to unpack. They live in memory and end with their holder.
import type { AcquireOptions, Permit } from '../util/semaphore.ts';
import type { LeaseStatus } from './unpacker.ts';

export interface LeaseLimits {
  readonly perNode: number;
  readonly perImage: number;
}

export interface ImageLeases {
  readonly image: string;
  readonly held: number;
  readonly waiting: number;
}

interface Waiter {
  readonly grant: (lease: Permit) => void;
}

/** There while the image holds something or waits. */
interface Share {
  readonly image: string;
  held: number;
  readonly waiters: Set<Waiter>;
}

/**
 * So many leases for the node, and so many of them for one image. Images take turns, so that one with a hundred layers does not hold up one
 * with two; within an image it is first come, first served.
 */
export class LeasePool {
  #limits: LeaseLimits;
  #held = 0;
  readonly #shares = new Map<string, Share>();
  /** Those with waiters, in the order of their turns. One that is at its own limit keeps its place. */
  readonly #turns = new Set<Share>();

  /** Errors: TypeError when a limit is not a positive whole number. */
  constructor(limits: LeaseLimits) {
    this.#limits = checked(limits);
  }

  /** What is held stays held: with less, nobody gets anything until enough came back. Errors: as the constructor's. */
  resize(limits: LeaseLimits): void {
    this.#limits = checked(limits);
    this.#grantWaiting();
  }

  /** Waits for a lease; whoever gets it gives it back, once, by calling it or with `using`. Errors: the signal's reason. */
  acquire(image: string, options: AcquireOptions = {}): Promise<Permit> {
    const { signal } = options;
    if (signal?.aborted) return Promise.reject(signal.reason as Error);
    return new Promise<Permit>((resolve, reject) => {
      const share = this.#shareOf(image);
      const waiter: Waiter = {
        grant: (lease) => {
          signal?.removeEventListener('abort', onAbort);
          resolve(lease);
        },
      };
      const onAbort = () => {
        share.waiters.delete(waiter);
        this.#forgetIdle(share);
        reject(signal?.reason as Error);
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      share.waiters.add(waiter);
      this.#turns.add(share);
      this.#grantWaiting();
    });
  }

  /** Runs `work` holding a lease, and gives it back however it ends. Errors: those of `work`; the signal's reason while waiting. */
  async run<T>(image: string, work: () => Promise<T>, options: AcquireOptions = {}): Promise<T> {
    using _lease = await this.acquire(image, options);
    return await work();
  }

  status(): LeaseStatus {
    const waiting = this.images().reduce((sum, share) => sum + share.waiting, 0);
    return { limit: this.#limits.perNode, perImage: this.#limits.perImage, held: this.#held, waiting };
  }

  /** Those that hold something or wait, in the order in which they came. */
  images(): ImageLeases[] {
    return [...this.#shares.values()].map(({ image, held, waiters }) => ({ image, held, waiting: waiters.size }));
  }

  #shareOf(image: string): Share {
    const found = this.#shares.get(image);
    if (found !== undefined) return found;
    const share: Share = { image, held: 0, waiters: new Set() };
    this.#shares.set(image, share);
    return share;
  }

  #grantWaiting(): void {
    while (this.#held < this.#limits.perNode) {
      const share = this.#nextTurn();
      if (share === undefined) return;
      const [waiter] = share.waiters;
      if (waiter === undefined) throw new Error('an image without waiters has no turn');
      share.waiters.delete(waiter);
      this.#turns.delete(share);
      // To the end of the line.
      if (share.waiters.size > 0) this.#turns.add(share);
      waiter.grant(this.#lend(share));
    }
  }

  #nextTurn(): Share | undefined {
    for (const share of this.#turns) if (share.held < this.#limits.perImage) return share;
    return undefined;
  }

  #lend(share: Share): Permit {
    this.#held += 1;
    share.held += 1;
    let held = true;
    const release = () => {
      if (!held) return;
      held = false;
      this.#held -= 1;
      share.held -= 1;
      this.#forgetIdle(share);
      this.#grantWaiting();
    };
    return Object.assign(release, { [Symbol.dispose]: release });
  }

  #forgetIdle(share: Share): void {
    if (share.waiters.size > 0) return;
    this.#turns.delete(share);
    if (share.held === 0) this.#shares.delete(share.image);
  }
}

function checked(limits: LeaseLimits): LeaseLimits {
  for (const [name, limit] of Object.entries(limits)) {
    if (!(Number.isSafeInteger(limit) && limit > 0)) {
      throw new TypeError(`leases ${name} must be a positive whole number: ${limit}`);
    }
  }
  return limits;
}
