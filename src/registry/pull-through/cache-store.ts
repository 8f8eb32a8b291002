import { hasCode } from '../errors.ts';
import type { Registry } from '../interface.ts';

const notFound = ['BLOB_UNKNOWN', 'MANIFEST_UNKNOWN', 'NAME_UNKNOWN'] as const;

export type StoreAction = 'read' | 'write';

/** The store behind a cache, without which the cache still answers: what fails in it is told, and then as if it had nothing. */
export class CacheStore {
  readonly registry: Registry;
  readonly #onFailure: (action: StoreAction, error: unknown) => void;
  readonly #told = new Set<StoreAction>();
  readonly #writing = new Set<Promise<unknown>>();
  #closed = false;

  constructor(registry: Registry, onFailure: (action: StoreAction, error: unknown) => void) {
    this.registry = registry;
    this.#onFailure = onFailure;
  }

  /** Undefined when it is not there or cannot be read. Errors: RANGE_INVALID; the signal's reason. */
  async find<T>(read: (store: Registry) => Promise<T>, signal?: AbortSignal): Promise<T | undefined> {
    try {
      const found = await read(this.registry);
      this.worked('read');
      return found;
    } catch (error) {
      signal?.throwIfAborted();
      if (hasCode(error, 'RANGE_INVALID')) throw error;
      if (!hasCode(error, ...notFound)) this.failed('read', error);
      return undefined;
    }
  }

  /** Whether it is kept now; nothing is when the cache is closed. Errors: the signal's reason. */
  async keep(write: (store: Registry) => Promise<unknown>, signal?: AbortSignal): Promise<boolean> {
    if (this.#closed) return false;
    try {
      await this.writing(write(this.registry));
      this.worked('write');
      return true;
    } catch (error) {
      signal?.throwIfAborted();
      this.failed('write', error);
      return false;
    }
  }

  /** Does in the store what upstream has done, unless it is about something that is not there. Errors: none. */
  async follow(write: (store: Registry) => Promise<unknown>): Promise<void> {
    await this.keep(async (store) => {
      await write(store).catch((error: unknown) => {
        if (!hasCode(error, ...notFound)) throw error;
      });
    });
  }

  /** Counts a write as under way until `work` settles. */
  async writing<T>(work: Promise<T>): Promise<T> {
    this.#writing.add(work);
    try {
      return await work;
    } finally {
      this.#writing.delete(work);
    }
  }

  /** Resolves when no write is under way any more, also of those whose callers have left. */
  async close(): Promise<void> {
    this.#closed = true;
    while (this.#writing.size > 0) await Promise.allSettled(this.#writing);
  }

  worked(action: StoreAction): void {
    this.#told.delete(action);
  }

  /** Tells it once, and once more when the store has worked in between. */
  failed(action: StoreAction, error: unknown): void {
    if (this.#told.has(action)) return;
    this.#told.add(action);
    this.#onFailure(action, error);
  }
}
