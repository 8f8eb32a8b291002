// Damage at random, the same for the same seed: a failure names its round and comes again.

/** A whole number from 0 to below `below`. */
export type Random = (below: number) => number;

/** mulberry32. */
export function random(seed: number): Random {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

export const interesting = [0, 1, 2, 4, 0x7f, 0x80, 0xff, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];

/** Flipped bits, interesting numbers, moved and cut pieces: one to four of them. `hot` bytes at both ends are hit most. */
export function mutate(bytes: Uint8Array, seed: number, hot: number): Buffer {
  const below = random(seed);
  let out = Buffer.from(bytes);
  for (let i = 1 + below(4); i > 0; i--) {
    const at =
      below(4) === 0
        ? below(out.length)
        : below(2) === 0
          ? below(hot) % out.length
          : Math.max(0, out.length - 1 - below(hot));
    const kind = below(8);
    if (kind < 3) out[at] = (out[at] ?? 0) ^ (1 << below(8));
    else if (kind < 5 && at + 4 <= out.length) out.writeUInt32LE(interesting[below(interesting.length)] ?? 0, at);
    else if (kind === 5) out = out.subarray(0, at + 1);
    else if (kind === 6) out.copyWithin(at, below(out.length), Math.min(out.length, at + 1 + below(64)));
    else out[at] = below(256);
  }
  return out;
}
