// A blob that is a file, read in whole or in part.
import type { Stats } from 'node:fs';
import { open } from 'node:fs/promises';
import { pipeline, Readable } from 'node:stream';
import type { Digest } from '../../oci/digest.ts';
import { mediaTypes } from '../../oci/media-type.ts';
import { VerifyingStream } from '../blob-content.ts';
import { clampRange } from '../blob-range.ts';
import type { BlobRange } from '../blob-range.ts';
import { RegistryError } from '../errors.ts';
import type { BlobReader, GetBlobOptions } from '../interface.ts';
import { isNotFound } from './durable-file.ts';

/** A blob that is a part of a file. */
export interface FileSection {
  /** Bytes from the start of the file. */
  readonly offset: number;
  readonly size: number;
  /** Whether the file is still the one in which the section was found. */
  readonly isCurrent: (file: Stats) => boolean;
}

/**
 * Opens `file`, or a section of it, as the blob `digest`; with a range those bytes, without one all of them, verified unless told not to. Undefined when the file is not there. Errors:
 * RANGE_INVALID when the range is not one or begins past the end.
 */
export async function openFileBlob(
  file: string,
  digest: Digest,
  range: BlobRange | undefined,
  options: GetBlobOptions = {},
  section?: FileSection,
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
    if (section?.isCurrent(stat) === false) throw new RegistryError('UNKNOWN', `${file} changed while it was in use`);
    const { offset, size } = section ?? { offset: 0, size: stat.size };
    const descriptor = { mediaType: mediaTypes.octetStream, digest, size };
    const { start, end } = clampRange(range, `blob ${digest}`, size);
    // A stream of no bytes cannot be asked for: its last byte would stand before its first.
    if (size === 0) await handle.close();
    const source =
      size === 0
        ? Readable.from([])
        : handle.createReadStream({
            start: offset + start,
            end: offset + end - 1,
            // Every piece is a trip through the thread pool and a system call of the connection.
            highWaterMark: 1024 * 1024,
            ...(options.signal === undefined ? {} : { signal: options.signal }),
          });
    const verified = range === undefined && options.verify !== false;
    const body: Readable = verified ? pipeline(source, new VerifyingStream(digest, size), () => {}) : source;
    return { descriptor, body, close: () => void body.on('error', () => {}).destroy() };
  } catch (error) {
    await handle.close();
    throw error;
  }
}
