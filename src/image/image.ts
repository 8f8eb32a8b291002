// What the commands and the mounts see of an image: its manifest, its merged tree and its bytes.
import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import type { Manifest } from '../oci/manifest.ts';
import type { Platform } from '../oci/platform.ts';
import type { RateLimit } from '../registry/registry.ts';
import type { Tree, TreeNode } from '../tree/tree.ts';

export type IndexMode = 'auto' | 'require' | 'never' | Digest;
export type PullPolicy = 'always' | 'missing' | 'never';

export interface Progress {
  /** What is being worked on, e.g. `layer sha256:0123…`. */
  readonly what: string;
  /** Bytes done and in total (undefined when unknown). */
  readonly done: number;
  readonly total: number | undefined;
}

export interface OpenImageOptions {
  readonly platform?: Platform | undefined;
  readonly index?: IndexMode | undefined;
  readonly pull?: PullPolicy | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

/** How a layer's bytes reach a reader. `lazy`: by span from the registry; `complete`: all on the node; `whole`: not here, will be downloaded whole. */
export type LayerServing = 'lazy' | 'complete' | 'whole';

export interface IndexStatus {
  readonly format: 'peel' | 'soci-v1' | 'soci-v2' | 'node';
  readonly digest: Digest | undefined;
  /** Where it came from, and why this one where there were several. */
  readonly source: string;
}

export interface LayerStatus {
  readonly descriptor: Descriptor;
  readonly diffId: Digest;
  readonly serving: LayerServing;
  /** One phrase: why it is served so, e.g. `peel table sha256:…`, `zTOC sha256:…`, `no index: media type is zstd`. */
  readonly reason: string;
  /** The seekable index in use; undefined when the node built its own. */
  readonly index: IndexStatus | undefined;
  /** Undefined, as is the size of the stream, while the node knows nothing of the layer. */
  readonly spans: number | undefined;
  readonly presentSpans: number;
  /** Bytes of the layer stream, and how many of them are in the block cache. */
  readonly streamSize: number | undefined;
  readonly presentBytes: number;
  /** Why reads of it failed last. */
  readonly lastError?: string | undefined;
}

/** What is known of an image without fetching any of its layers. */
export type InspectedImage = Pick<Image, 'reference' | 'digest' | 'manifest' | 'config' | 'warnings'> & {
  /** The index that is taken first for layers that the node knows nothing of yet; undefined when there is none. */
  readonly index: IndexStatus | undefined;
  /** Why there is none, as half a sentence; empty when there is one. */
  readonly indexReason: string;
  readonly layers: readonly LayerStatus[];
  /** How much the registry still lets us pull; undefined when it did not say or was not asked. */
  readonly rateLimit: RateLimit | undefined;
};

export interface Image {
  /** The reference in full, e.g. `docker.io/library/debian:12`, `oci:/dir:tag` or `oci-archive:/file:tag`. */
  readonly reference: string;
  /** Digest of the image manifest that was chosen (a platform's, when the reference is an image index). */
  readonly digest: Digest;
  readonly manifest: Manifest;
  /** The image config, parsed JSON as in OCI image spec config.md. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Things said once: an index that was ignored and why, an unreachable registry and the digest used instead. */
  readonly warnings: readonly string[];
  layers(): readonly LayerStatus[];
  /** The merged tree, whiteouts applied; the same object each time. */
  tree(options?: { signal?: AbortSignal | undefined }): Promise<Tree>;
  /** Bytes [offset, offset+length) of a regular file, clamped to its size; holes are zeros. Errors: ImageError with an errno-like code. */
  read(
    node: TreeNode,
    offset: number,
    length: number,
    options?: { signal?: AbortSignal | undefined },
  ): Promise<Uint8Array>;
  /** A whole regular file in order, in chunks of at most 1 MiB. */
  stream(node: TreeNode, options?: { signal?: AbortSignal | undefined }): AsyncIterable<Uint8Array>;
  close(): Promise<void>;
}
