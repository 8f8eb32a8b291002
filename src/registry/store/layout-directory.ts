import { stat } from 'node:fs/promises';
import path from 'node:path';
import type { Descriptor } from '../../oci/descriptor.ts';
import { digestAlgorithm, digestHex } from '../../oci/digest.ts';
import type { Digest } from '../../oci/digest.ts';
import { makeDirectory } from '../../util/make-directory.ts';
import type { BlobReader, CallOptions } from '../interface.ts';
import { checkDigest } from '../names.ts';
import { isNotFound, readIfPresent, writeDurably } from './durable-file.ts';
import { openFileBlob } from './file-blob.ts';
import type { FileRange } from './file-blob.ts';
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
    const file = path.join(dir, 'index.json');
    this.index = {
      name: dir,
      read: () => readIfPresent(file),
      write: async (text, first) => {
        if (first) {
          await makeDirectory(dir);
          await writeDurably(path.join(dir, 'oci-layout'), layoutFile);
        }
        await writeDurably(file, text);
      },
    };
  }

  /** Errors: DIGEST_INVALID. */
  blobPath(digest: Digest): string {
    checkDigest(digest);
    return path.join(this.dir, 'blobs', digestAlgorithm(digest), digestHex(digest));
  }

  async open(digest: Digest, range: FileRange | undefined, options: CallOptions): Promise<BlobReader | undefined> {
    return await openFileBlob(this.blobPath(digest), digest, range, options);
  }

  async size(digest: Digest): Promise<number | undefined> {
    try {
      return (await stat(this.blobPath(digest))).size;
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }

  async putManifest({ digest }: Descriptor, bytes: Uint8Array): Promise<void> {
    await writeDurably(this.blobPath(digest), bytes);
  }
}
