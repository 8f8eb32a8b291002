import { randomBytes } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import type { Readable } from 'node:stream';
import type { Descriptor } from '../../oci/descriptor.ts';
import { digestAlgorithm } from '../../oci/digest.ts';
import { contentHash, contentProblem } from '../blob-content.ts';
import type { CallOptions } from '../interface.ts';
import { makeFolder, syncDirectory } from '../store/durable-file.ts';

/** Writes a stream to `file`, which is there afterwards, durably, only if it is what the descriptor says. Errors: SIZE_INVALID, DIGEST_INVALID, those of the stream. */
export async function writeBlobFile(
  file: string,
  descriptor: Descriptor,
  body: () => Readable,
  options: CallOptions = {},
): Promise<void> {
  const { digest, size } = descriptor;
  const dir = path.dirname(file);
  await makeFolder(dir);
  const temporary = path.join(dir, `.${randomBytes(8).toString('hex')}.tmp`);
  const handle = await open(temporary, 'wx');
  try {
    const hash = contentHash(digestAlgorithm(digest));
    let seen = 0;
    for await (const chunk of body() as AsyncIterable<Uint8Array>) {
      options.signal?.throwIfAborted();
      seen += chunk.byteLength;
      // More than announced is not written out first.
      if (seen > size) break;
      hash.update(chunk);
      await handle.appendFile(chunk);
    }
    const wrong = contentProblem(digest, size, hash.digest(), seen);
    if (wrong !== null) throw wrong;
    await handle.sync();
    await rename(temporary, file);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  } finally {
    await handle.close();
  }
  await syncDirectory(dir);
}
