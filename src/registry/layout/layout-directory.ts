import path from 'node:path';
import type { Descriptor } from '../../oci/descriptor.ts';
import { digestAlgorithm, digestHex } from '../../oci/digest.ts';
import type { Digest } from '../../oci/digest.ts';
import type { BlobReader, CallOptions } from '../interface.ts';
import type { BlobRange } from '../blob-range.ts';
import { checkDigest } from '../names.ts';
import { statIfPresent } from '../store/content-pool.ts';
import { readIfPresent, writeDurably } from '../store/durable-file.ts';
import { openFileBlob } from '../store/file-blob.ts';
import { lockFile } from '../store/file-lock.ts';
import type { LayoutFiles } from './layout-files.ts';
import { layoutFile } from './layout-index.ts';
import type { IndexFile } from './layout-index.ts';

/** The files of an image layout in a directory. Every change is durable when its call returns. */
export class LayoutDirectory implements LayoutFiles {
  readonly dir: string;
  readonly name: string;
  readonly index: IndexFile;

  constructor(dir: string) {
    this.dir = dir;
    this.name = `oci image layout ${dir}`;
    this.index = directoryIndex(dir);
  }

  /** Errors: DIGEST_INVALID. */
  blobPath(digest: Digest): string {
    checkDigest(digest);
    return path.join(this.dir, 'blobs', digestAlgorithm(digest), digestHex(digest));
  }

  async open(digest: Digest, range: BlobRange | undefined, options: CallOptions): Promise<BlobReader | undefined> {
    return await openFileBlob(this.blobPath(digest), digest, range, options);
  }

  async size(digest: Digest): Promise<number | undefined> {
    return (await statIfPresent(this.blobPath(digest)))?.size;
  }

  async putManifest({ digest }: Descriptor, bytes: Uint8Array): Promise<void> {
    await writeDurably(this.blobPath(digest), bytes);
  }
}

/** index.json of a layout in a directory. */
export function directoryIndex(dir: string): IndexFile {
  const file = path.join(dir, 'index.json');
  return {
    name: dir,
    read: () => readIfPresent(file),
    write: async (text, first) => {
      if (first) await writeDurably(path.join(dir, 'oci-layout'), layoutFile);
      await writeDurably(file, text);
    },
    lock: (options) => lockFile(path.join(dir, '.lock'), 'exclusive', options),
  };
}
