import { availableParallelism } from 'node:os';
import { systemClock } from '../util/clock.ts';
import { Semaphore } from '../util/semaphore.ts';
import type { BlobSource } from './blob-source.ts';
import { Link } from './link.ts';
import type { LinkOptions } from './link.ts';

const MiB = 1 << 20;
/** Registries that are remembered; one that is forgotten is measured anew. */
const maxLinks = 64;

/** What the fetchers of a process share: the links to the registries, and the memory for what is being decoded. */
export class LinkTable {
  /**
   * Bytes of blob that are decoded or wait for it. Enough for all cores, and for what nobody waits for little enough that a demand does not wait
   * long behind it.
   */
  readonly decodeBytes: Semaphore;
  readonly #options: LinkOptions;
  #requests: number;
  /** Used last, last. */
  readonly #links = new Map<string, Link>();

  constructor(options: LinkOptions = {}) {
    this.#options = options;
    this.#requests = options.requests ?? 8;
    const others = Math.max(8, 2 * availableParallelism()) * MiB;
    this.decodeBytes = new Semaphore(others + 24 * MiB, { reserve: 24 * MiB });
  }

  get clock(): NonNullable<LinkOptions['clock']> {
    return this.#options.clock ?? systemClock;
  }

  /** All that are remembered. */
  get links(): readonly Link[] {
    return [...this.#links.values()];
  }

  /** The link to where a blob comes from. */
  of(source: Pick<BlobSource, 'host' | 'name'>): Link {
    const host = source.host ?? source.name;
    const link = this.#links.get(host) ?? new Link({ ...this.#options, requests: this.#requests });
    this.#links.delete(host);
    this.#links.set(host, link);
    const [oldest] = this.#links.keys();
    if (this.#links.size > maxLinks && oldest !== undefined) this.#links.delete(oldest);
    return link;
  }

  /** A registry answers again after it was left alone; `host` as in a reference. */
  returned(host: string): void {
    this.#links.get(host)?.returned();
  }

  /** Requests at once to each registry, from now on. */
  setRequests(requests: number): void {
    this.#requests = requests;
    for (const link of this.#links.values()) link.slots.resize(requests);
  }
}
