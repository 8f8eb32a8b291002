// What stays in a job's folder when it did not end well.
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { errorCode, errorMessage } from '../layer/errors.ts';
import type { Logger } from '../observe/log.ts';
import type { Digest } from '../oci/digest.ts';
import { removeTree } from '../util/remove-tree.ts';
import type { CompressedStore } from './compressed-store.ts';
import type { UnpackErrorCode } from './errors.ts';
import { removeBlob } from './job-blob.ts';

/** Where a job has the tree. */
export function treeIn(folder: string): string {
  return join(folder, 'fs');
}

/** Not of the bytes, whatever they are. */
const ofOthers: ReadonlySet<string | undefined> = new Set<UnpackErrorCode | undefined>([
  undefined,
  'ERR_UNPACK_FETCH',
  'ERR_UNPACK_SPACE',
  'ERR_UNPACK_CANCELLED',
  'ERR_UNPACK_EXPIRED',
]);
/** A verified blob does not end like this. */
const damage: ReadonlySet<string | undefined> = new Set<UnpackErrorCode>([
  'ERR_UNPACK_DIGEST',
  'ERR_UNPACK_DIFF_ID',
  'ERR_UNPACK_LAYER',
  'ERR_UNPACK_DECOMPRESSOR',
]);

/**
 * The next attempt goes on with the chunks that are here, unless they may be what is wrong: nobody has verified the whole yet. With a full disk
 * all goes, as there is not much else to make room with. Never rejects.
 */
export async function clearJob(
  { compressed, log }: { readonly compressed: CompressedStore; readonly log: Logger },
  layer: Digest,
  folder: string,
  failure: unknown,
): Promise<void> {
  const code = errorCode(failure);
  const isOfPeel = code?.startsWith('ERR_UNPACK_') === true;
  try {
    await removeTree(treeIn(folder));
    for (const name of ['index', 'data']) await rm(join(folder, name), { force: true });
    if (isOfPeel && !ofOthers.has(code)) await removeBlob(folder);
    if (damage.has(code)) await compressed.remove(layer);
  } catch (error) {
    log.warn({ layer, folder, error: errorMessage(error) }, 'cannot clear the folder of a job that failed');
  }
}
