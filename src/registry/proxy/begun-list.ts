/** A list whose first item is there, so that one that cannot be had at all fails here and not when somebody reads it. */
export async function begunList<T>(list: AsyncIterable<T>): Promise<AsyncIterable<T>> {
  const items = list[Symbol.asyncIterator]();
  const first = await items.next();
  return (async function* () {
    try {
      for (let step = first; step.done !== true; step = await items.next()) yield step.value;
    } finally {
      await items.return?.();
    }
  })();
}
