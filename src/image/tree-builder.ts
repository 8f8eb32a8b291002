import { createHash } from 'node:crypto';
import { mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import type { Layer } from '../layer/layer.ts';
import { errorMessage } from '../layer/errors.ts';
import type { Tree } from '../tree/tree.ts';
import { OnceMap } from '../util/once-map.ts';
import { ImageError } from './errors.ts';
import type { TreeJob, TreeJobResult } from './tree-worker.ts';

/** Raised when the same layers give other bytes: what older releases compiled is then not found any more. */
const treeVersion = 1;
const blockSize = 512;

/** The merged tree of an image: in memory for those who look at it, compiled on disk for those who mount it. */
export class TreeBuilder {
  readonly #dir: string;
  readonly #compiling = new OnceMap<string, string>();

  constructor(root: string) {
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
    if (await exists(path)) return path;
    return await this.#compiling.run(
      path,
      async (signal) => {
        await mkdir(this.#dir, { recursive: true, mode: 0o700 });
        const job = {
          out: path,
          blockSize,
          layers: layers.map(({ paths, streamSize }) => ({ index: paths.index, streamSize })),
        } as const;
        await runJob(job, signal);
        return path;
      },
      options,
    );
  }
}

/** The same layers with the same indexes make the same tree, whatever the image is called. */
function treeKey(layers: readonly Layer[]): string {
  const hash = createHash('sha256').update(`peel tree ${treeVersion} ${blockSize}\n`);
  for (const { descriptor, fingerprint } of layers)
    hash.update(`${descriptor.digest} ${Buffer.from(fingerprint).toString('hex')}\n`);
  return hash.digest('hex');
}

async function runJob(job: TreeJob, signal: AbortSignal): Promise<void> {
  const worker = new Worker(new URL('./tree-worker.js', import.meta.url), { workerData: job, execArgv: [] });
  const stop = () => void worker.terminate();
  signal.addEventListener('abort', stop, { once: true });
  try {
    const result = await new Promise<TreeJobResult>((resolve, reject) => {
      worker.once('message', resolve);
      worker.once('error', reject);
      worker.once('exit', () => reject(new Error('the thread that compiles the tree ended without a result')));
    });
    signal.throwIfAborted();
    if (result.error !== undefined) throw new ImageError('ERR_IMAGE_TREE', `the layers make no tree: ${result.error}`);
  } finally {
    signal.removeEventListener('abort', stop);
    await worker.terminate();
  }
}

async function exists(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  );
}
