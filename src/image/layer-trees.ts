import type { Digest } from '../oci/digest.ts';
import { errorCode, errorMessage } from '../layer/errors.ts';
import type { MadeTree } from '../layer/made-tree.ts';
import type { ByteString } from '../util/byte-string.ts';
import { OnceMap } from '../util/once-map.ts';
import { untilAborted } from '../util/until-aborted.ts';
import { ImageError } from './errors.ts';
import { layerTreeKey, LayerTreeFiles, type TreeRecord } from './layer-tree-files.ts';
import { touchTreeFile } from './tree-file.ts';
import type { FoundNodes, IndexedLayer, IndexJobs, RootAttributes } from '../layer/index-job.ts';
import { IndexThreads } from '../layer/index-threads.ts';

/** A layer that the node has the index of. */
export interface LayerRef {
  readonly digest: Digest;
  /** 32 bytes that stand for the index file. */
  readonly fingerprint: Uint8Array;
  readonly indexPath: string;
  /** Bytes of the layer stream. */
  readonly streamSize: number;
}

export interface LayerTreeRequest {
  readonly layer: LayerRef;
  /** The layers below, lowest first; undefined when not all of them are known. */
  readonly below: readonly LayerRef[] | undefined;
  /** Nothing is below: the tree can also be shown by itself. */
  readonly base: boolean;
  /** For overlays with `userxattr`. */
  readonly userXattr: boolean;
}

export interface LayerTree {
  /** Names the tree in `remove`. */
  readonly key: string;
  /** The EROFS image; its only device is the layer stream. */
  readonly path: string;
  /** What the layer says of the directory `/`; undefined when it does not. */
  readonly root: RootAttributes | undefined;
}

/** What no tree of a single layer can hold. */
const unfit = ['ERR_TREE_BELOW', 'ERR_TREE_LOWER_LINK', 'ERR_TREE_DEVICE'];
const keepThreadMs = 5000;

/** The trees of single layers, compiled once and kept on disk: what an overlay over the layers of an image is made of. */
export class LayerTrees {
  readonly #files: LayerTreeFiles;
  readonly #compiling = new OnceMap<string, LayerTree>();
  /** By key: those that are being written. */
  readonly #given = new Map<string, Promise<LayerTree>>();
  readonly #jobs: IndexJobs;
  /** Undefined: they are somebody else's. */
  readonly #threads: IndexThreads | undefined;

  /** `jobs`: who compiles; default threads of its own. */
  constructor(root: string, jobs?: IndexJobs) {
    this.#files = new LayerTreeFiles(root);
    this.#threads = jobs === undefined ? new IndexThreads({ keepMs: keepThreadMs }) : undefined;
    this.#jobs = jobs ?? (this.#threads as IndexThreads);
  }

  /**
   * The layer's tree; compiled in a thread where the node has not got it, and else found without reading more than a few bytes.
   * Errors: ERR_IMAGE_LAYER_TREE with the reason, when the layer has no tree of its own and is to be unpacked; ERR_IMAGE_TREE when it makes
   * no tree at all or none can be written (`cause` has the code); the signal's reason.
   */
  async compiled(request: LayerTreeRequest, options: { signal?: AbortSignal | undefined } = {}): Promise<LayerTree> {
    options.signal?.throwIfAborted();
    const keys = keysOf(request);
    const given = await untilAborted(
      this.#given.get(keys.first)?.catch(() => undefined) ?? Promise.resolve(undefined),
      options.signal,
    );
    if (given !== undefined) return given;
    const found = await this.#find(request, keys);
    if (found !== undefined) {
      await touchTreeFile(found.path);
      return found;
    }
    return await this.#compiling.run(
      `${keys.first} ${keys.chain}`,
      (signal) => this.#compile(request, keys, signal),
      options,
    );
  }

  /** Keeps a tree that was made elsewhere, for whoever asks for it next. One that cannot be written is made again then. */
  give(made: MadeTree): void {
    const { digest, fingerprint, tree, base, userXattr } = made;
    const key = layerTreeKey({ digest, fingerprint }, { over: base ? 'nothing' : 'anything', userXattr });
    if (this.#given.has(key)) return;
    const root = tree.root ?? null;
    const writing = this.#files.write(key, tree.image, { root }).then(() => this.#treeOf(key, { root }));
    this.#given.set(key, writing);
    const forget = (): void => void this.#given.delete(key);
    writing.then(forget, forget);
  }

  /**
   * What the layer's tree has at these clean paths, one answer for each; undefined where nothing is. Errors: IndexJobError; the signal's
   * reason.
   */
  async nodesAt(
    { layer, below, base, userXattr }: LayerTreeRequest,
    paths: readonly ByteString[],
    { signal }: { readonly signal: AbortSignal },
  ): Promise<FoundNodes> {
    const job = { layer: indexed(layer), below: below?.map(indexed), base, userXattr, paths };
    return await this.#jobs.run({ kind: 'look', ...job }, signal);
  }

  /** A tree of an earlier process, also when a power cut took what was known of it; undefined when it is gone. */
  async find(key: string): Promise<LayerTree | undefined> {
    const record = await this.#files.find(key);
    if (record === undefined) return (await this.#files.has(key)) ? this.#treeOf(key, { root: null }) : undefined;
    return 'below' in record ? undefined : this.#treeOf(key, record);
  }

  /** Deletes trees; those that are mounted stay until they are unmounted. Errors: those of the file system. */
  async remove(keys: Iterable<string>): Promise<void> {
    for (const key of keys) await this.#files.remove(key);
  }

  /** Ends its threads that wait for more to do; they end by themselves after some seconds. */
  async close(): Promise<void> {
    await Promise.allSettled(this.#given.values());
    await this.#threads?.close();
  }

  async #find(request: LayerTreeRequest, keys: Keys): Promise<LayerTree | undefined> {
    const record = await this.#files.find(keys.first);
    if (record === undefined) return undefined;
    if (!('below' in record)) return this.#treeOf(keys.first, record);
    if (keys.chain === undefined) throw refused(request.layer, record.below);
    const chained = await this.#files.find(keys.chain);
    return chained === undefined || 'below' in chained ? undefined : this.#treeOf(keys.chain, chained);
  }

  async #compile(request: LayerTreeRequest, keys: Keys, signal: AbortSignal): Promise<LayerTree> {
    const { layer, below, base, userXattr } = request;
    try {
      const job = { layer: indexed(layer), below: below?.map(indexed), base, userXattr };
      const made = await this.#jobs.run({ kind: 'layer', ...job }, signal);
      const root = made.root ?? null;
      if (made.below === undefined || keys.chain === undefined) {
        await this.#files.write(keys.first, made.image, { root });
        return this.#treeOf(keys.first, { root });
      }
      await this.#files.write(keys.chain, made.image, { root, sentBy: keys.first });
      await this.#files.writeRecord(keys.first, { below: made.below });
      return this.#treeOf(keys.chain, { root });
    } catch (cause) {
      signal.throwIfAborted();
      if (unfit.includes(errorCode(cause) ?? '')) throw refused(layer, errorMessage(cause), cause);
      throw new ImageError('ERR_IMAGE_TREE', `layer ${layer.digest} makes no tree: ${errorMessage(cause)}`, { cause });
    }
  }

  #treeOf(key: string, record: Extract<TreeRecord, { root: unknown }>): LayerTree {
    return { key, path: this.#files.path(key), root: record.root ?? undefined };
  }
}

interface Keys {
  /** Of the tree when it depends on this layer alone, as most do. */
  readonly first: string;
  /** Of the tree over just these layers; undefined when they are not known or none. */
  readonly chain: string | undefined;
}

function keysOf({ layer, below, base, userXattr }: LayerTreeRequest): Keys {
  return {
    first: layerTreeKey(layer, { over: base ? 'nothing' : 'anything', userXattr }),
    chain: base || below === undefined ? undefined : layerTreeKey(layer, { over: below, userXattr }),
  };
}

function indexed({ indexPath, fingerprint, streamSize }: LayerRef): IndexedLayer {
  return { index: indexPath, fingerprint, streamSize };
}

function refused(layer: LayerRef, why: string, cause?: unknown): ImageError {
  return new ImageError('ERR_IMAGE_LAYER_TREE', `layer ${layer.digest} has no tree of its own: ${why}`, { cause });
}
