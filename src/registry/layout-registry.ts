import path from 'node:path';
import type { Readable } from 'node:stream';
import type { Descriptor } from '../oci/descriptor.ts';
import type { CallOptions } from './interface.ts';
import { LayoutContents } from './layout-contents.ts';
import { LayoutDirectory } from './store/layout-directory.ts';
import { writeBlobFile } from './store/write-blob-file.ts';

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
    _repository: string,
    descriptor: Descriptor,
    body: () => Readable,
    options: CallOptions = {},
  ): Promise<Descriptor> {
    const file = this.#files.blobPath(descriptor.digest);
    const existing = await this.#files.size(descriptor.digest).catch(() => undefined);
    if (existing !== descriptor.size) await writeBlobFile(file, descriptor, body(), options);
    return descriptor;
  }
}
