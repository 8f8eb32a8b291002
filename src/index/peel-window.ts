import { formatError } from './errors.ts';
import { maxFrameBytes, maxFrameContent } from './peel-table-format.ts';
import { windowSize } from './span-columns.ts';
import { ByteReader } from './varint.ts';
import { decodeZstdInto } from './zstd-decode.ts';

// One for all, as it is used up before anything else can run.
const content = Buffer.allocUnsafeSlow(maxFrameContent);

/**
 * The window that a frame of a windows blob holds: 32 768 bytes, oldest first, zero where the span does not look. That the
 * frame has its digest is the caller's check. Errors: ERR_INDEX_FORMAT.
 */
export function decodeWindow(frame: Uint8Array): Uint8Array {
  if (frame.length > maxFrameBytes) throw formatError(`window frame has ${frame.length} bytes`);
  const size = decodeZstdInto(content, frame, 'window frame');
  const reader = new ByteReader(content.subarray(0, size), 'window frame');
  const places = readPlaces(reader, size);
  const window = new Uint8Array(windowSize);
  for (let i = 0; i < places.length; i += 2) window.set(reader.raw(places[i + 1] as number), places[i]);
  if (!reader.done) throw formatError('window frame has more bytes than its runs need');
  return window;
}

/** Start and length of each run, in turns. */
function readPlaces(reader: ByteReader, size: number): Uint32Array {
  const runs = reader.uint();
  // Two numbers and a byte each, at least.
  if (3 * runs > size) throw formatError(`window frame states ${runs} runs in ${size} bytes`);
  const places = new Uint32Array(2 * runs);
  let at = 0;
  for (let i = 0; i < runs; i++) {
    const gap = reader.uint();
    const length = reader.uint();
    if (length === 0 || (gap === 0 && i > 0)) throw formatError(`window frame: run ${i} is not one of its own`);
    if (gap + length > windowSize - at) throw formatError(`window frame: run ${i} does not end within the window`);
    places[2 * i] = at + gap;
    places[2 * i + 1] = length;
    at += gap + length;
  }
  return places;
}
