import { createHash, randomUUID } from 'node:crypto';
import { link, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { digestAlgorithm, digestHex } from '../oci/digest.ts';
import type { Digest } from '../oci/digest.ts';

/** The files of one layer in the block cache. */
export interface LayerPaths {
  readonly dir: string;
  readonly index: string;
  /** The layer stream, sparse while lazy. */
  readonly data: string;
  /** The windows that are here of a layer with a peel index, sparse; none once the layer is complete. */
  readonly windows: string;
  /** The layer stream while it is downloaded whole. */
  readonly building: string;
  /** Held exclusively by whoever makes the layer's files. */
  readonly buildLock: string;
  /** Shared memory: the spans that are present. */
  readonly live: string;
}

/** Where layers lie. Two state directories never share live bits, also when one was deleted and made anew at the same path. */
export class LayerDirectories {
  readonly #blobs: string;
  readonly #live: string;
  readonly #locks: string;

  private constructor(blobs: string, live: string, locks: string) {
    this.#blobs = blobs;
    this.#live = live;
    this.#locks = locks;
  }

  static async open(root: string, runDir: string): Promise<LayerDirectories> {
    const id = await rootId(root);
    const live = join(runDir, 'live', createHash('sha256').update(id).digest('hex').slice(0, 16));
    const blobs = join(root, 'blobs');
    await mkdir(live, { recursive: true, mode: 0o700 });
    for (const algorithm of ['sha256', 'sha512']) await mkdir(join(blobs, algorithm), { recursive: true, mode: 0o700 });
    const locks = join(root, 'locks');
    await mkdir(locks, { recursive: true, mode: 0o700 });
    return new LayerDirectories(blobs, live, locks);
  }

  paths(layer: Digest): LayerPaths {
    const hex = digestHex(layer);
    const dir = join(this.#blobs, digestAlgorithm(layer), hex);
    return {
      dir,
      index: join(dir, 'index'),
      data: join(dir, 'data'),
      windows: join(dir, 'windows'),
      building: join(dir, 'data.tmp'),
      // Not in the layer's own directory, which comes and goes under the lock.
      buildLock: join(this.#locks, `${digestAlgorithm(layer)}-${hex}`),
      live: join(this.#live, hex),
    };
  }
}

/** A random name that is made with the state directory and goes with it. */
async function rootId(root: string): Promise<string> {
  const path = join(root, 'id');
  const temporary = `${path}.${randomUUID()}`;
  try {
    return await readFile(path, 'utf8');
  } catch {
    await writeFile(temporary, randomUUID(), { mode: 0o600 });
    // Of two processes that start at once the first one's name counts.
    await link(temporary, path).catch(() => {});
    await rm(temporary);
    return await readFile(path, 'utf8');
  }
}
