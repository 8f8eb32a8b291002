// Stand-in: compiles a layer by itself, whiteouts left out; the real one takes its place.
import { createHash } from 'node:crypto';
import { mkdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import type { Digest } from '../oci/digest.ts';
import { OnceMap } from '../util/once-map.ts';
import { ImageError } from './errors.ts';
import type { TreeJob, TreeJobResult } from './tree-worker.ts';

export interface LayerRef {
  readonly digest: Digest;
  /** Of the index file. */
  readonly fingerprint: Uint8Array;
  readonly indexPath: string;
  readonly streamSize: number;
}

export interface RootAttributes {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

export interface LayerTree {
  /** Names the tree: a file name. */
  readonly key: string;
  readonly path: string;
  readonly root: RootAttributes | undefined;
}

export interface LayerTreeRequest {
  readonly layer: LayerRef;
  /** Lowest first; undefined when one of them is not a layer of ours. */
  readonly below: readonly LayerRef[] | undefined;
  readonly base: boolean;
  readonly userXattr: boolean;
}

export class LayerTrees {
  readonly #dir: string;
  readonly #compiling = new OnceMap<string, LayerTree>();

  constructor(root: string) {
    this.#dir = join(root, 'trees', 'layers');
  }

  /** Errors: ERR_IMAGE_LAYER_TREE when the layer cannot stand alone. */
  async compiled(request: LayerTreeRequest, options: { signal?: AbortSignal | undefined } = {}): Promise<LayerTree> {
    const { layer } = request;
    const hash = createHash('sha256').update(`${layer.digest} ${request.userXattr}`).update(layer.fingerprint);
    const key = hash.digest('hex');
    return (
      (await this.find(key)) ?? (await this.#compiling.run(key, (signal) => this.#compile(key, layer, signal), options))
    );
  }

  /** A tree that was compiled before; undefined when it is gone. */
  async find(key: string): Promise<LayerTree | undefined> {
    const path = this.#path(key);
    const there = await stat(path).catch(() => undefined);
    return there === undefined ? undefined : { key, path, root: undefined };
  }

  async remove(keys: readonly string[]): Promise<void> {
    for (const key of keys) await rm(this.#path(key), { force: true });
  }

  /** Idempotent. */
  async close(): Promise<void> {}

  async #compile(key: string, layer: LayerRef, signal: AbortSignal): Promise<LayerTree> {
    await mkdir(this.#dir, { recursive: true, mode: 0o700 });
    const path = this.#path(key);
    const job: TreeJob = {
      out: path,
      blockSize: 512,
      layers: [{ index: layer.indexPath, streamSize: layer.streamSize }],
    };
    const worker = new Worker(new URL('./tree-worker.js', import.meta.url), { workerData: job, execArgv: [] });
    try {
      const result = await new Promise<TreeJobResult>((resolve, reject) => {
        worker.once('message', resolve);
        worker.once('error', reject);
        worker.once('exit', () => reject(new Error('the thread that compiles the tree ended without a result')));
      });
      signal.throwIfAborted();
      if (result.error !== undefined)
        throw new ImageError('ERR_IMAGE_LAYER_TREE', `layer ${layer.digest} makes no tree: ${result.error}`);
      return { key, path, root: undefined };
    } finally {
      await worker.terminate();
    }
  }

  #path(key: string): string {
    return join(this.#dir, `${key}.erofs`);
  }
}
