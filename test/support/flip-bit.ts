import { closeSync, openSync, readSync, writeSync } from 'node:fs';

/** Changes one bit of the byte at `at`, where the file lies. */
export function flipBit(path: string, at: number): void {
  const file = openSync(path, 'r+');
  try {
    const byte = Buffer.alloc(1);
    readSync(file, byte, 0, 1, at);
    writeSync(file, Buffer.from([(byte[0] ?? 0) ^ 1]), 0, 1, at);
  } finally {
    closeSync(file);
  }
}
