export interface BegunList<T> {
  readonly isEmpty: boolean;
  readonly items: AsyncIterable<T>;
}

/** Waits for a list's first item, so that one that cannot be had at all fails here and not when somebody reads it. */
export async function begunList<T>(list: AsyncIterable<T>): Promise<BegunList<T>> {
  const items = list[Symbol.asyncIterator]();
  const first = await items.next();
  return { isEmpty: first.done === true, items: rest(first, items) };
}

async function* rest<T>(first: IteratorResult<T>, items: AsyncIterator<T>): AsyncGenerator<T> {
  try {
    for (let step = first; step.done !== true; step = await items.next()) yield step.value;
  } finally {
    await items.return?.();
  }
}
