// Layers in containerd's content store, for who unpacks them: read from there, and kept there for `ctr image export` and push.
import type { BlobSource } from '../../layer/blob-source.ts';
import type { Descriptor } from '../../oci/descriptor.ts';
import type { BlobReader } from '../../registry/registry.ts';
import { PulledStream } from '../../registry/streams/pulled-stream.ts';
import type { LocalBlobs } from '../../unpack/blob-feed.ts';
import { Content } from '../gen/containerd/services/content/v1/content_pb.ts';
import { ContentService } from './content.ts';
import { LeaseService } from './leases.ts';
import { ContainerdSession } from './session.ts';
import type { SessionOptions } from './session.ts';
import { writeContent } from './write-content.ts';

/** As long as a large blob may take to read. */
const streamTimeoutMs = 86_400_000;
/** By then the image that is being pulled refers to the blob, or nobody wants it. */
const leaseLifetimeMs = 3_600_000;

export class ContainerdBlobs implements LocalBlobs {
  readonly name: string;
  readonly #options: SessionOptions;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.name = `containerd at ${options.address}, namespace ${options.namespace}`;
  }

  /** Errors: ContainerdError, the signal's reason. */
  async find(blob: Descriptor, { signal }: { readonly signal: AbortSignal }): Promise<BlobSource | undefined> {
    const session = await ContainerdSession.open(this.#options, { signal });
    try {
      const size = await new ContentService(session).size(blob.digest, { signal });
      return size === blob.size ? new ContainerdBlob(this.#options, blob) : undefined;
    } finally {
      session.close();
    }
  }

  /** Errors: ContainerdError, those of `open`, the signal's reason. */
  async keep(...[blob, open, { signal }]: Parameters<Required<LocalBlobs>['keep']>): Promise<void> {
    const session = await ContainerdSession.open(this.#options, { signal });
    try {
      const lease = await new LeaseService(session).create(leaseLifetimeMs, { signal });
      const leased = session.withLease(lease);
      try {
        const { digest, size } = blob;
        await writeContent(leased, { ref: `layer-${digest}`, digest, size, labels: () => ({}), open, signal });
      } finally {
        leased.close();
      }
    } finally {
      session.close();
    }
  }
}

class ContainerdBlob implements BlobSource {
  readonly name: string;
  readonly #options: SessionOptions;
  readonly #blob: Descriptor;

  constructor(options: SessionOptions, blob: Descriptor) {
    this.name = `${blob.digest} in containerd`;
    this.#options = options;
    this.#blob = blob;
  }

  readAll(options?: { readonly signal?: AbortSignal | undefined }): Promise<BlobReader> {
    return this.readRange(0, this.#blob.size, options);
  }

  async readRange(
    start: number,
    end: number,
    { signal }: { readonly signal?: AbortSignal | undefined } = {},
  ): Promise<BlobReader> {
    const { digest } = this.#blob;
    const session = await ContainerdSession.open(this.#options, { signal });
    const size = Math.min(end, this.#blob.size) - start;
    const pieces = async function* () {
      // containerd takes the size 0 for everything.
      if (size <= 0) return;
      const request = { digest, offset: BigInt(start), size: BigInt(size) };
      const call = { signal, timeoutMs: streamTimeoutMs };
      for await (const { data } of session.stream(Content.method.read, `read ${digest}`, request, call)) yield data;
    };
    // Destroyed it ends at once, also when nobody has begun to read.
    const body = new PulledStream(pieces(), () => session.close());
    return { descriptor: this.#blob, body, close: () => body.destroy() };
  }
}
