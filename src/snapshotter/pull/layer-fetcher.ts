// Brings layers into containerd's content store, those ahead while the one below is unpacked.
import { setMaxListeners } from 'node:events';
import { sourceOf } from '../../image/origin-blob.ts';
import type { Origin } from '../../image/origin.ts';
import type { ProgressSink } from '../../observe/progress.ts';
import type { Descriptor } from '../../oci/descriptor.ts';
import type { Digest } from '../../oci/digest.ts';
import { Semaphore } from '../../util/semaphore.ts';
import { ContentService } from '../containerd/content.ts';
import type { ContainerdSession } from '../containerd/session.ts';
import { writeContent } from '../containerd/write-content.ts';
import type { ContentBody } from '../containerd/write-content.ts';
import type { Labels } from '../layer-provider.ts';

export interface LayerFetcherOptions {
  /** With the lease. */
  readonly session: ContainerdSession;
  readonly origin: Origin;
  readonly labels: (existing: Labels) => Labels;
  readonly signal: AbortSignal | undefined;
  readonly onProgress: ProgressSink;
}

interface Fetch {
  /** Bytes that crossed the network; 0 when containerd had the layer. */
  bytes: Promise<number>;
  readonly stop: AbortController;
  ended: boolean;
}

/** As many as containerd's own clients. */
const atOnce = 3;
const abortTimeoutMs = 5_000;

export class LayerFetcher {
  readonly #options: LayerFetcherOptions;
  readonly #slots = new Semaphore(atOnce);
  readonly #fetches = new Map<Digest, Fetch>();

  constructor(options: LayerFetcherOptions) {
    this.#options = options;
  }

  /**
   * Bytes fetched since the last time the layer was asked for. Errors: RegistryError, ImageError for a foreign layer that is nowhere,
   * ContainerdError.
   */
  async fetch(layer: Descriptor): Promise<number> {
    const fetch = this.#started(layer);
    const bytes = await fetch.bytes;
    fetch.bytes = Promise.resolve(0);
    return bytes;
  }

  /** Begins with layers that may be wanted soon. */
  ahead(layers: readonly Descriptor[]): void {
    for (const layer of layers) this.#started(layer);
  }

  /** Ends what is under way and throws the halves away. Whoever wants such a layer later fetches it anew. */
  async abandon(): Promise<void> {
    const { session, onProgress } = this.#options;
    await this.#stop(async (digest) => {
      await new ContentService(session).abort(refOf(digest), { timeoutMs: abortTimeoutMs }).catch(() => {});
      // Nothing more will come.
      onProgress({ what: `layer ${digest}`, done: 0, total: 0 });
    });
  }

  /** Ends what is under way. The halves stay for the next pull, for as long as containerd keeps them. */
  async close(): Promise<void> {
    await this.#stop(() => Promise.resolve());
  }

  async #stop(clean: (digest: Digest) => Promise<void>): Promise<void> {
    const running = [...this.#fetches].filter(([, { ended }]) => !ended);
    await Promise.all(
      running.map(async ([digest, { bytes, stop }]) => {
        stop.abort(new DOMException('the layer is not wanted any more', 'AbortError'));
        this.#fetches.delete(digest);
        const written = await bytes.then(
          () => true,
          () => false,
        );
        if (!written) await clean(digest);
      }),
    );
  }

  #started(layer: Descriptor): Fetch {
    const known = this.#fetches.get(layer.digest);
    if (known !== undefined) return known;
    const stop = new AbortController();
    const { signal: outer } = this.#options;
    const signal = outer === undefined ? stop.signal : AbortSignal.any([outer, stop.signal]);
    setMaxListeners(0, signal);
    const bytes = this.#slots.run(() => this.#write(layer, signal), { signal });
    const fetch: Fetch = { bytes, stop, ended: false };
    bytes.catch(() => {}).finally(() => (fetch.ended = true));
    this.#fetches.set(layer.digest, fetch);
    return fetch;
  }

  async #write(layer: Descriptor, signal: AbortSignal): Promise<number> {
    const { session, origin, labels, onProgress } = this.#options;
    const { digest, size } = layer;
    const source = sourceOf(origin, layer);
    return await writeContent(session, {
      ref: refOf(digest),
      digest,
      size,
      labels,
      signal,
      open: async (offset): Promise<ContentBody> => {
        const reader = await (offset === 0 ? source.readAll({ signal }) : source.readRange(offset, size, { signal }));
        return { body: reader.body as AsyncIterable<Uint8Array>, close: () => reader.close() };
      },
      onProgress: (done) => onProgress({ what: `layer ${digest}`, done, total: size }),
    });
  }
}

/** As containerd's clients name it: two that pull the same layer share the work. */
function refOf(digest: Digest): string {
  return `layer-${digest}`;
}
