import type { TestRegistry } from './test-registry.ts';

export interface HeldBlobs {
  /** Requests that wait. */
  readonly waiting: number;
  /** They, and all that come from now on, are answered. */
  release(): void;
}

/** The registry answers so many requests for the bytes of these blobs, and no more until it is told to. */
export function holdBlobs({ front }: TestRegistry, digests: readonly string[], answered = 0): HeldBlobs {
  let left = answered;
  const held: (() => void)[] = [];
  const stop = front.interfere(
    ({ method, url = '' }) => method === 'GET' && digests.some((digest) => url.includes(digest)),
    (_request, _response, forward) => {
      left -= 1;
      if (left >= 0) forward();
      else held.push(() => forward());
    },
  );
  return {
    get waiting() {
      return held.length;
    },
    release: () => {
      stop();
      for (const answer of held.splice(0)) answer();
    },
  };
}
