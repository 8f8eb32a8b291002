import { formatError } from './errors.ts';
import { maxFrameBytes } from './peel-table-format.ts';
import { windowSize } from './span-columns.ts';
import { decodeZstd } from './zstd-decode.ts';

/**
 * The window that a frame of a windows blob holds: 32 768 bytes, oldest first, zero where the span does not look. That the
 * frame has its digest is the caller's check. Errors: ERR_INDEX_FORMAT.
 */
export function decodeWindow(frame: Uint8Array): Uint8Array {
  if (frame.length > maxFrameBytes) throw formatError(`window frame has ${frame.length} bytes`);
  return decodeZstd(frame, windowSize, 'window frame');
}
