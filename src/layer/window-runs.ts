// Which frames of a windows blob are asked for together.

export interface WindowRunLimits {
  /** Bytes between two wanted frames that are read through rather than asking twice. */
  readonly maxGap: number;
  /** Bytes that a request is worth: with fewer it takes neighbours along that will be wanted soon. */
  readonly minBytes: number;
  /** Bytes of one request. */
  readonly maxBytes: number;
}

export const windowRunLimits: WindowRunLimits = { maxGap: 16 << 10, minBytes: 16 << 10, maxBytes: 1 << 20 };

/** Frames of a blob, ascending and without gaps between neighbours. Offsets in bytes. */
export interface FrameTable {
  readonly count: number;
  start(frame: number): number;
  end(frame: number): number;
}

/** The wanted frames, ascending, in runs that lie close together. */
export function groupFrames(frames: FrameTable, wanted: readonly number[], limits: WindowRunLimits): number[][] {
  const groups: number[][] = [];
  for (const frame of wanted) {
    const group = groups.at(-1);
    const [first, last] = [group?.[0], group?.at(-1)];
    const isNear =
      first !== undefined &&
      last !== undefined &&
      frames.start(frame) - frames.end(last) <= limits.maxGap &&
      frames.end(frame) - frames.start(first) <= limits.maxBytes;
    if (isNear) group?.push(frame);
    else groups.push([frame]);
  }
  return groups;
}

/** Frames from `first` to `last` and those around them, as far as `limits.minBytes` to either side. */
export function around(
  frames: FrameTable,
  { first, last }: { readonly first: number; readonly last: number },
  limits: WindowRunLimits,
): { first: number; last: number } {
  let [low, high] = [first, last];
  while (low > 0 && frames.start(first) - frames.start(low - 1) <= limits.minBytes) low -= 1;
  while (high + 1 < frames.count && frames.end(high + 1) - frames.end(last) <= limits.minBytes) high += 1;
  return { first: low, last: high };
}

/**
 * What the requests for `wanted` (ascending) bring, ascending in each: the wanted frames, what lies between them, and neighbours where that is
 * little; of those that nobody asked for only the ones that `isFree`. No frame is in two.
 */
export function chooseWindowRuns(
  frames: FrameTable,
  wanted: readonly number[],
  isFree: (frame: number) => boolean,
  limits: WindowRunLimits,
): number[][] {
  const taken = new Set(wanted);
  const isAddable = (frame: number): boolean =>
    frame >= 0 && frame < frames.count && !taken.has(frame) && isFree(frame);
  return groupFrames(frames, wanted, limits).map((group) => {
    let first = group[0] as number;
    let last = group.at(-1) as number;
    const run = new Set(group);
    const add = (frame: number): void => {
      taken.add(frame);
      run.add(frame);
    };
    for (let frame = first; frame < last; frame += 1) if (isAddable(frame)) add(frame);
    while (frames.end(last) - frames.start(first) < limits.minBytes) {
      // Layers are mostly read forwards.
      if (isAddable(last + 1)) add((last += 1));
      else if (isAddable(first - 1)) add((first -= 1));
      else break;
    }
    return [...run].toSorted((a, b) => a - b);
  });
}
