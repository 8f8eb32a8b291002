// Files that are called by the digest of what is in them: content of images, and layers as they were pushed.
import { createHash } from 'node:crypto';
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { errorCode } from '../layer/errors.ts';
import { digestAlgorithm, digestHex, isDigest } from '../oci/digest.ts';
import type { Digest } from '../oci/digest.ts';
import { allNamesIn } from '../util/all-names-in.ts';
import { guarded } from './check.ts';
import type { CheckOptions } from './check.ts';
import type { FindingPlace } from './finding.ts';

const pieceBytes = 1 << 20;

/** Of `<root>/<folder>/<algorithm>/<hex>`. Errors: errno codes of a folder that cannot be read; the signal's reason. */
export async function checkDigests(
  root: string,
  { folder, place }: { readonly folder: string; readonly place: FindingPlace },
  options: CheckOptions,
): Promise<void> {
  for (const algorithm of ['sha256', 'sha512']) {
    const dir = join(root, folder, algorithm);
    for (const name of (await allNamesIn(dir)) ?? []) {
      const digest = `${algorithm}:${name}`;
      if (!isDigest(digest)) continue;
      await guarded(options, { place, subject: digest }, async () => {
        const isRight = await hasDigest(join(dir, name), digest, options);
        if (isRight !== false) return;
        if (options.repair) await rm(join(dir, name), { force: true });
        options.found({
          place,
          subject: digest,
          what: 'its bytes are not those of its digest',
          repaired: options.repair,
          how: options.repair ? 'removed; it is fetched or made again when it is needed' : undefined,
        });
      });
    }
  }
}

/** Undefined when the file is gone. */
async function hasDigest(path: string, digest: Digest, { pace, signal }: CheckOptions): Promise<boolean | undefined> {
  const hash = createHash(digestAlgorithm(digest));
  try {
    const file = await open(path, 'r');
    try {
      const piece = Buffer.allocUnsafe(pieceBytes);
      for (;;) {
        const { bytesRead } = await file.read(piece, 0, piece.length);
        if (bytesRead === 0) return hash.digest('hex') === digestHex(digest);
        hash.update(piece.subarray(0, bytesRead));
        await pace(bytesRead, signal);
      }
    } finally {
      await file.close();
    }
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}
