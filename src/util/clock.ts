/** What a scheduler knows of time and chance; replaced in tests. */
export interface Clock {
  /** ms since some moment; never goes back. */
  now(): number;
  /** In [0, 1). */
  random(): number;
  /** Calls `work` in `ms`, once; what is returned prevents it. */
  after(ms: number, work: () => void): () => void;
  /** Calls `work` when what goes on at this moment is over. */
  soon(work: () => void): void;
}

export const systemClock: Clock = {
  now: () => performance.now(),
  random: Math.random,
  after: (ms, work) => {
    const timer = setTimeout(work, ms);
    return () => clearTimeout(timer);
  },
  soon: (work) => void setImmediate(work),
};
