import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import type { NodeIndex } from '../index/node-index.ts';
import { errorCode } from '../layer/errors.ts';
import type { LayerPaths } from '../layer/layer-paths.ts';
import { WindowFrames } from '../layer/window-frames.ts';
import type { CheckOptions } from './check.ts';

/** How many windows in the layer's file are not the ones of its index; with `repair` they are taken out. Errors: errno codes; the signal's reason. */
export async function checkWindows(
  index: Pick<NodeIndex, 'windows'>,
  paths: Pick<LayerPaths, 'windows'>,
  { repair, pace, signal }: CheckOptions,
): Promise<number> {
  if (index.windows === undefined) return 0;
  const file = await openThere(paths.windows, repair ? 'r+' : 'r');
  if (file === undefined) return 0;
  try {
    const frames = new WindowFrames(index.windows);
    let wrong = 0;
    for (let frame = 0; frame < frames.count; frame += 1) {
      const start = frames.start(frame);
      const bytes = Buffer.alloc(frames.end(frame) - start);
      await pace(bytes.length, signal);
      const { bytesRead } = await file.read(bytes, 0, bytes.length, start);
      // Nothing was ever written there.
      if (bytes.subarray(0, bytesRead).every((byte) => byte === 0)) continue;
      if (createHash('sha256').update(bytes).digest().equals(frames.sha256(frame))) continue;
      wrong += 1;
      if (repair) await file.write(Buffer.alloc(bytesRead), 0, bytesRead, start);
    }
    return wrong;
  } finally {
    await file.close();
  }
}

async function openThere(path: string, flags: 'r' | 'r+'): Promise<FileHandle | undefined> {
  try {
    return await open(path, flags);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}
