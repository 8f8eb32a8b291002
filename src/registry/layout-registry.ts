import { rename } from 'node:fs/promises';
import path from 'node:path';
import type { Readable } from 'node:stream';
import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import type { BlobWriter, CallOptions } from './interface.ts';
import { LayoutContents, checkName } from './layout-contents.ts';
import { makeFolder, syncDirectory } from './store/durable-file.ts';
import { FileUpload } from './store/file-upload.ts';
import type { UploadPlace } from './store/file-upload.ts';
import { LayoutDirectory } from './layout/layout-directory.ts';
import { writeBlobFile } from './layout/write-blob-file.ts';

/**
 * An OCI image layout on disk as a registry with a single repository: whatever name is asked for, it is this one. Tags are the names in
 * index.json. What it cannot do is UNSUPPORTED.
 */
export class LayoutRegistry extends LayoutContents {
  readonly dir: string;
  readonly #files: LayoutDirectory;

  /** The directory is read when something is asked for, and made by the first push. */
  constructor(dir: string) {
    const files = new LayoutDirectory(path.resolve(dir));
    super(files);
    this.dir = files.dir;
    this.#files = files;
  }

  override async pushBlob(
    repository: string,
    descriptor: Descriptor,
    body: () => Readable,
    options: CallOptions = {},
  ): Promise<Descriptor> {
    checkName(repository);
    const file = this.#files.blobPath(descriptor.digest);
    const existing = await this.#files.size(descriptor.digest).catch(() => undefined);
    if (existing !== descriptor.size) await writeBlobFile(file, descriptor, body, options);
    return descriptor;
  }

  override async pushBlobChunked(repository: string): Promise<BlobWriter> {
    checkName(repository);
    return await FileUpload.start(this.#uploads(repository));
  }

  override async resumeBlob(repository: string, id: string, offset: number | undefined): Promise<BlobWriter> {
    checkName(repository);
    return await FileUpload.resume(this.#uploads(repository), id, offset);
  }

  /** There is one repository: it has the blob already, or nobody has. Errors: BLOB_UNKNOWN. */
  override async mountBlob(fromRepository: string, toRepository: string, digest: Digest): Promise<Descriptor> {
    checkName(toRepository);
    return await this.resolveBlob(fromRepository, digest);
  }

  #uploads(repository: string): UploadPlace {
    return {
      repository: repository === '' ? this.dir : repository,
      dir: path.join(this.dir, '.uploads'),
      adopt: async (digest, file) => {
        const blob = this.#files.blobPath(digest);
        await makeFolder(path.dirname(blob));
        await rename(file, blob);
        await syncDirectory(path.dirname(blob));
        return true;
      },
    };
  }
}
