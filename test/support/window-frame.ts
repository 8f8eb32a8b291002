// A window's frame, as the native builder makes them but for the compression.
import { compress } from 'zstd-napi';
import { ByteWriter } from '../../src/index/varint.ts';

export function windowFrame(window: Uint8Array): Buffer {
  return compress(windowRuns(window));
}

/** What a frame of it decodes to. */
export function windowRuns(window: Uint8Array): Buffer {
  const places = new ByteWriter();
  const bytes = new ByteWriter();
  let [runs, last] = [0, 0];
  for (let at = 0; at < window.length; at++) {
    if (window[at] === 0) continue;
    let end = at + 1;
    for (let next = end; next < window.length && next - end <= 3; next++) if (window[next] !== 0) end = next + 1;
    places.uint(at - last);
    places.uint(end - at);
    bytes.raw(window.subarray(at, end));
    runs++;
    at = last = end;
  }
  const count = new ByteWriter();
  count.uint(runs);
  return Buffer.concat([count.finish(), places.finish(), bytes.finish()]);
}
