// A blob that is a file, read in whole or in part.
import { open } from 'node:fs/promises';
import { pipeline } from 'node:stream';
import type { Readable } from 'node:stream';
import type { Digest } from '../../oci/digest.ts';
import { mediaTypes } from '../../oci/media-type.ts';
import { VerifyingStream } from '../blob-content.ts';
import { clampRange } from '../blob-range.ts';
import type { BlobRange } from '../blob-range.ts';
import { RegistryError } from '../errors.ts';
import type { BlobReader, CallOptions } from '../interface.ts';
import { isNotFound } from './durable-file.ts';

/**
 * Opens `file` as the blob `digest`; with a range those bytes, without one all of them, verified. Undefined when the file is not there. Errors:
 * RANGE_INVALID when the range is not one or begins past the end.
 */
export async function openFileBlob(
  file: string,
  digest: Digest,
  range: BlobRange | undefined,
  options: CallOptions = {},
): Promise<BlobReader | undefined> {
  options.signal?.throwIfAborted();
  let handle;
  try {
    handle = await open(file, 'r');
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
  try {
    const stat = await handle.stat();
    if (!stat.isFile()) throw new RegistryError('BLOB_UNKNOWN', `blob ${digest} is not a file`);
    const { size } = stat;
    const descriptor = { mediaType: mediaTypes.octetStream, digest, size };
    const { start, end } = clampRange(range, digest, size);
    const source = handle.createReadStream({
      start,
      // An empty file has no last byte; `end: -1` would be refused.
      end: Math.max(end - 1, 0),
      highWaterMark: 256 * 1024,
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });
    const body: Readable = range === undefined ? pipeline(source, new VerifyingStream(digest, size), () => {}) : source;
    return { descriptor, body, close: () => void body.on('error', () => {}).destroy() };
  } catch (error) {
    await handle.close();
    throw error;
  }
}
