import type { Descriptor } from '../../oci/descriptor.ts';
import { digestAlgorithm } from '../../oci/digest.ts';
import { contentHash, contentProblem } from '../blob-content.ts';

/**
 * Passes the bytes of a whole blob on, the last ones only after all of them were checked: over HTTP the length is told first, so a
 * client that has every byte takes the blob for good. Errors: SIZE_INVALID, DIGEST_INVALID; those of `chunks`.
 */
export async function* verifiedChunks(
  chunks: AsyncIterable<Uint8Array>,
  { digest, size }: Descriptor,
): AsyncGenerator<Uint8Array> {
  const hash = contentHash(digestAlgorithm(digest));
  let seen = 0;
  let last: Uint8Array | undefined;
  for await (const chunk of chunks) {
    seen += chunk.byteLength;
    if (seen > size) break;
    hash.update(chunk);
    if (seen < size) yield chunk;
    else last ??= chunk;
  }
  const wrong = contentProblem(digest, size, hash.digest(), seen);
  if (wrong !== null) throw wrong;
  if (last !== undefined) yield last;
}
