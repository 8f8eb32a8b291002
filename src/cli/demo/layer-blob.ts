import { spawn } from 'node:child_process';
import { createHash, type Hash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { rename } from 'node:fs/promises';
import path from 'node:path';
import { Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { type Digest, digestFromSha256, digestHex } from '../../oci/digest.ts';
import { CommandError } from '../errors.ts';
import { ended } from './child.ts';

export interface LayerBlob {
  readonly digest: Digest;
  readonly diffId: Digest;
  /** Bytes of the blob and of the tar in it. */
  readonly size: number;
  readonly streamSize: number;
}

/** Which files a layer has: paths below `folder`, directories without what is in them. */
export interface LayerFiles {
  readonly folder: string;
  readonly names: readonly string[];
}

const tarArguments = [
  '--create',
  '--format=posix',
  '--pax-option=delete=atime,delete=ctime',
  '--owner=0',
  '--group=0',
  '--numeric-owner',
  '--no-recursion',
  '--ignore-failed-read',
  '--null',
  '--files-from=-',
];

/** Packs with tar and `compressor` (a gzip) into `blobs`, where the file is named by its digest. */
export async function packLayer(
  files: LayerFiles,
  blobs: string,
  compressor: string,
  signal: AbortSignal,
): Promise<LayerBlob> {
  const tar = spawn('tar', ['-C', files.folder, ...tarArguments], { stdio: ['pipe', 'pipe', 'inherit'], signal });
  const gzip = spawn(compressor, ['-6', '-n', '-c'], { stdio: ['pipe', 'pipe', 'inherit'], signal });
  const stream = new Measure();
  const blob = new Measure();
  const temporary = path.join(blobs, `layer-${process.pid}-${Date.now()}`);
  const list = files.names.map((name) => `${name}\0`).join('');
  const [tarEnd, gzipEnd] = await Promise.all([
    ended(tar, 'tar'),
    ended(gzip, compressor),
    pipeline(Readable.from([Buffer.from(list)]), tar.stdin),
    pipeline(tar.stdout, stream, gzip.stdin),
    pipeline(gzip.stdout, blob, createWriteStream(temporary)),
  ]);
  if (tarEnd !== '0' || gzipEnd !== '0') {
    throw new CommandError(`packing a layer failed: tar ended with ${tarEnd}, ${compressor} with ${gzipEnd}`);
  }
  const digest = blob.digest();
  await rename(temporary, path.join(blobs, digestHex(digest)));
  return { digest, diffId: stream.digest(), size: blob.size, streamSize: stream.size };
}

/** Passes bytes on, counting and hashing them. */
class Measure extends Transform {
  size = 0;
  readonly #hash: Hash = createHash('sha256');

  override _transform(chunk: Buffer, _encoding: string, done: (error: null, chunk: Buffer) => void): void {
    this.size += chunk.byteLength;
    this.#hash.update(chunk);
    done(null, chunk);
  }

  digest(): Digest {
    return digestFromSha256(this.#hash.digest());
  }
}
