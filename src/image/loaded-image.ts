import type { Layer } from '../layer/layer.ts';
import { LayerError, errorMessage } from '../layer/errors.ts';
import type { Digest } from '../oci/digest.ts';
import type { Manifest } from '../oci/manifest.ts';
import type { TarEntry } from '../tar/entry.ts';
import type { Tree, TreeNode } from '../tree/tree.ts';
import { ImageError } from './errors.ts';
import type { FoundProfile } from './profile-finder.ts';
import type { Image, LayerStatus } from './image.ts';
import type { TreeBuilder } from './tree-builder.ts';

export interface LoadedImageInit {
  readonly reference: string;
  readonly digest: Digest;
  readonly manifest: Manifest;
  readonly config: Readonly<Record<string, unknown>>;
  readonly warnings: readonly string[];
  /** One per layer of the manifest; a layer that occurs twice is the same object twice. */
  readonly layers: readonly Layer[];
  readonly trees: TreeBuilder;
  /** Looks for what starts of the image touch. */
  readonly findProfile: (layers: readonly Layer[], options: FindProfileOptions) => Promise<FoundProfile | undefined>;
}

export interface FindProfileOptions {
  /** Told once of each profile that is there and cannot be used. */
  readonly onWarning: (warning: string) => void;
  readonly signal?: AbortSignal | undefined;
}

interface CallOptions {
  readonly signal?: AbortSignal | undefined;
}

const chunkBytes = 1 << 20;

/** An image with all its layers open; what `openImage` returns, and what transports are given. */
export class LoadedImage implements Image {
  readonly reference: string;
  readonly digest: Digest;
  readonly manifest: Manifest;
  readonly config: Readonly<Record<string, unknown>>;
  readonly warnings: readonly string[];
  /** Lowest first. */
  readonly openLayers: readonly Layer[];
  readonly #trees: TreeBuilder;
  readonly #findProfile: LoadedImageInit['findProfile'];
  #tree: Promise<Tree> | undefined;
  #closed: Promise<void> | undefined;

  constructor(init: LoadedImageInit) {
    this.reference = init.reference;
    this.digest = init.digest;
    this.manifest = init.manifest;
    this.config = init.config;
    this.warnings = init.warnings;
    this.openLayers = init.layers;
    this.#trees = init.trees;
    this.#findProfile = init.findProfile;
  }

  layers(): readonly LayerStatus[] {
    return this.openLayers.map((layer) => statusOf(layer));
  }

  tree(options: CallOptions = {}): Promise<Tree> {
    options.signal?.throwIfAborted();
    const tree = this.#tree ?? this.#trees.inMemory(this.openLayers);
    this.#tree = tree;
    return tree;
  }

  /** What the topmost layer that has an entry for it says of the image's root directory. Keeps nothing in memory. */
  rootEntry(): TarEntry | undefined {
    for (const layer of this.openLayers.toReversed()) {
      const found = layer.entries().findLast(({ type, path }) => type === 'dir' && /^[./]*$/.test(path));
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /** Path of the compiled tree, made when the node has not got it. Keeps nothing in memory. Errors: ERR_IMAGE_TREE. */
  treeFile(options: CallOptions = {}): Promise<string> {
    return this.#trees.compiled(this.openLayers, options);
  }

  /**
   * What starts of the image touch, for its layers as they are open; undefined when nothing is known. May ask the registry that was asked for
   * indexes, so a mount does not wait for it. Errors: those of a registry that cannot be asked; the signal's reason.
   */
  findProfile(options: FindProfileOptions): Promise<FoundProfile | undefined> {
    return this.#findProfile(this.openLayers, options);
  }

  async read(node: TreeNode, offset: number, length: number, options: CallOptions = {}): Promise<Uint8Array> {
    if (node.type !== 'file') throw new ImageError('ERR_IMAGE_NOT_FILE', `not a regular file but a ${node.type}`);
    if (this.#closed !== undefined) throw new ImageError('ERR_IMAGE_CLOSED', `${this.reference} is closed`);
    const end = Math.min(offset + length, node.size);
    const size = Math.max(0, end - offset);
    const result = Buffer.alloc(size);
    await Promise.all(
      node.extents.map(async (extent) => {
        const from = Math.max(offset, extent.fileOffset);
        const to = Math.min(end, extent.fileOffset + extent.size);
        if (from >= to) return;
        const bytes = await this.#readLayer(
          extent.layer,
          extent.streamOffset + (from - extent.fileOffset),
          to - from,
          options,
        );
        result.set(bytes, from - offset);
      }),
    );
    return result;
  }

  /** The next chunk is asked for before this one is used, so that fetching and writing overlap. */
  async *stream(node: TreeNode, options: CallOptions = {}): AsyncGenerator<Uint8Array> {
    const read = (offset: number) => {
      const chunk = this.read(node, offset, chunkBytes, options);
      // Looked at later; a consumer that stops early must not leave an unhandled rejection behind.
      chunk.catch(() => {});
      return chunk;
    };
    let next = node.size > 0 || node.type !== 'file' ? read(0) : undefined;
    for (let offset = 0; next !== undefined; ) {
      const current = next;
      offset += chunkBytes;
      next = offset < node.size ? read(offset) : undefined;
      yield await current;
    }
  }

  /** Idempotent. */
  close(): Promise<void> {
    this.#closed ??= Promise.all([...new Set(this.openLayers)].map((layer) => layer.close())).then(() => {});
    return this.#closed;
  }

  async #readLayer(position: number, offset: number, length: number, options: CallOptions): Promise<Uint8Array> {
    const layer = this.openLayers[position];
    if (layer === undefined)
      throw new ImageError(
        'ERR_IMAGE_READ',
        `the tree of ${this.reference} names layer ${position}, which it has not got`,
      );
    try {
      return await layer.read(offset, length, options);
    } catch (cause) {
      options.signal?.throwIfAborted();
      if (!(cause instanceof LayerError)) throw cause;
      throw new ImageError('ERR_IMAGE_READ', errorMessage(cause), { cause });
    }
  }
}

export function statusOf(layer: Layer): LayerStatus {
  const { row, descriptor, diffId, spans, present } = layer;
  return {
    descriptor,
    diffId,
    serving: present.complete ? 'complete' : 'lazy',
    reason: row.reason,
    index:
      row.indexFormat === 'node'
        ? undefined
        : { format: row.indexFormat, digest: row.indexDigest, source: row.indexSource },
    spans: spans.count,
    presentSpans: present.spans,
    streamSize: spans.streamSize,
    presentBytes: present.bytes,
    lastError: layer.lastError,
  };
}
