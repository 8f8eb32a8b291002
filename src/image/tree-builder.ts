import { createHash } from 'node:crypto';
import { mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Layer } from '../layer/layer.ts';
import { errorMessage } from '../layer/errors.ts';
import type { Tree } from '../tree/tree.ts';
import { OnceMap } from '../util/once-map.ts';
import { ImageError } from './errors.ts';
import { type IndexJobs, treeBlockSize } from '../layer/index-job.ts';
import { IndexThreads } from '../layer/index-threads.ts';
import { touchTreeFile, writeTreeFile } from './tree-file.ts';

/** Raised when the same layers give other bytes: what older releases compiled is then not found any more. */
const treeVersion = 1;

/** The merged tree of an image: in memory for those who look at it, compiled on disk for those who mount it. */
export class TreeBuilder {
  readonly #dir: string;
  readonly #compiling = new OnceMap<string, string>();
  readonly #jobs: IndexJobs;

  /** `jobs`: who compiles; default a thread for each image. None is kept: its heap, which holds all entries of an image, goes with it. */
  constructor(root: string, jobs: IndexJobs = new IndexThreads({ keepMs: 0 })) {
    this.#jobs = jobs;
    this.#dir = join(root, 'trees', 'sha256');
  }

  /** Errors: ERR_IMAGE_TREE naming the entry that makes no tree. */
  async inMemory(layers: readonly Layer[]): Promise<Tree> {
    const { mergeLayers } = await import('../tree/merge.ts');
    try {
      return mergeLayers(layers.map((layer) => ({ entries: layer.entries(), streamSize: layer.streamSize })));
    } catch (cause) {
      throw new ImageError('ERR_IMAGE_TREE', `the layers make no tree: ${errorMessage(cause)}`, { cause });
    }
  }

  /** Path of the compiled tree; compiled in a thread of its own where the node has not got it. Errors: ERR_IMAGE_TREE. */
  async compiled(layers: readonly Layer[], options: { signal?: AbortSignal | undefined } = {}): Promise<string> {
    const path = join(this.#dir, `${treeKey(layers)}.erofs`);
    if (await exists(path)) {
      await touchTreeFile(path);
      return path;
    }
    return await this.#compiling.run(
      path,
      async (signal) => {
        await mkdir(this.#dir, { recursive: true, mode: 0o700 });
        const indexed = layers.map(({ paths, streamSize, fingerprint }) => {
          return { index: paths.index, fingerprint, streamSize };
        });
        try {
          const { image } = await this.#jobs.run({ kind: 'merged', layers: indexed }, signal);
          await writeTreeFile(path, image);
        } catch (cause) {
          signal.throwIfAborted();
          throw new ImageError('ERR_IMAGE_TREE', `the layers make no tree: ${errorMessage(cause)}`, { cause });
        }
        return path;
      },
      options,
    );
  }
}

/** The same layers with the same indexes make the same tree, whatever the image is called. */
function treeKey(layers: readonly Layer[]): string {
  const hash = createHash('sha256').update(`peel tree ${treeVersion} ${treeBlockSize}\n`);
  for (const { descriptor, fingerprint } of layers)
    hash.update(`${descriptor.digest} ${Buffer.from(fingerprint).toString('hex')}\n`);
  return hash.digest('hex');
}

async function exists(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  );
}
