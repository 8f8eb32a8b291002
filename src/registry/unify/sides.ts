// Asking two registries, and what two outcomes come to.
import { RegistryError, hasCode } from '../errors.ts';
import type { CallOptions } from '../interface.ts';

export type Pair<T> = readonly [T, T];

type Work<S, T> = (side: S, options: CallOptions) => Promise<T>;

/**
 * The same in both, at once. A failure aborts the other side and is thrown when that has ended too; `undo` then takes back what succeeded.
 * Errors: the first failure, which names its side; the reason of the caller's signal.
 */
export async function inBoth<S, T>(
  sides: Pair<S>,
  work: Work<S, T>,
  options: CallOptions = {},
  undo: (result: T) => Promise<void> = async () => {},
): Promise<Pair<T>> {
  options.signal?.throwIfAborted();
  const failing = new AbortController();
  const onAbort = () => failing.abort(options.signal?.reason);
  options.signal?.addEventListener('abort', onAbort, { once: true });
  let failure: RegistryError | undefined;
  const attempt = async (side: S, position: 0 | 1): Promise<T> => {
    try {
      return await work(side, { signal: failing.signal });
    } catch (error) {
      failure ??= ofSide(error, position);
      failing.abort(failure);
      throw error;
    }
  };
  try {
    const [a, b] = await Promise.allSettled([attempt(sides[0], 0), attempt(sides[1], 1)]);
    if (a.status === 'fulfilled' && b.status === 'fulfilled') return [a.value, b.value];
    await Promise.allSettled([a, b].map(async (side) => side.status === 'fulfilled' && (await undo(side.value))));
    options.signal?.throwIfAborted();
    throw failure;
  } finally {
    options.signal?.removeEventListener('abort', onAbort);
  }
}

/** The first side's answer; the second is asked when that fails. Errors: the weightier of two failures. */
export async function inTurn<S, T>(sides: Pair<S>, work: Work<S, T>, options: CallOptions = {}): Promise<T> {
  const [first, second] = sides;
  try {
    return await work(first, options);
  } catch (error) {
    options.signal?.throwIfAborted();
    try {
      return await work(second, options);
    } catch (other) {
      options.signal?.throwIfAborted();
      throw weightier(error, other);
    }
  }
}

/** Both are asked at once and the first answer counts; the other side is aborted, or its late answer given to `discard`. */
export async function fastest<S, T>(
  sides: Pair<S>,
  work: Work<S, T>,
  options: CallOptions,
  discard: (late: T) => void,
): Promise<T> {
  options.signal?.throwIfAborted();
  let winner: AbortController | undefined;
  const ask = (side: S) => {
    const controller = new AbortController();
    // A body that is read after the call is still bound to the caller's signal, so this link outlives the call.
    const signal =
      options.signal === undefined ? controller.signal : AbortSignal.any([options.signal, controller.signal]);
    const answer = (async () => {
      const result = await work(side, { signal });
      if (winner === undefined) winner = controller;
      else discard(result);
      return { result, controller };
    })();
    return { controller, answer };
  };
  const asked = [ask(sides[0]), ask(sides[1])] as const;
  try {
    const { result } = await Promise.any(asked.map(({ answer }) => answer));
    for (const { controller } of asked) {
      if (controller !== winner) controller.abort(new DOMException('the other registry answered first', 'AbortError'));
    }
    return result;
  } catch (error) {
    options.signal?.throwIfAborted();
    const [first, second] = (error as AggregateError).errors as unknown[];
    throw weightier(first, second);
  }
}

/** What a call comes to that failed on both sides: an outage says more than "unknown", since the content may lie where nobody could look. */
export function weightier(first: unknown, second: unknown): RegistryError {
  if (!isAbsence(first)) return ofSide(first, 0);
  if (!isAbsence(second)) return ofSide(second, 1);
  return first.code === 'NAME_UNKNOWN' ? second : first;
}

export function isAbsence(error: unknown): error is RegistryError {
  return hasCode(error, 'BLOB_UNKNOWN', 'MANIFEST_UNKNOWN', 'NAME_UNKNOWN');
}

/** The same error, saying which of the two it is from. What is no RegistryError may say too much, and is only the cause. */
export function ofSide(error: unknown, position: 0 | 1): RegistryError {
  const side = position === 0 ? 'first' : 'second';
  if (!(error instanceof RegistryError)) {
    return new RegistryError('UNKNOWN', `the ${side} of two registries failed`, { cause: error });
  }
  const { status, retryAfterMs, detail } = error;
  const facts = { status, retryAfterMs, detail, cause: error };
  return new RegistryError(error.code, `in the ${side} of two registries: ${error.message}`, facts);
}
