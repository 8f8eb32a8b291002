import type { Stats } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import type { Descriptor } from '../oci/descriptor.ts';
import { digestAlgorithm, digestHex } from '../oci/digest.ts';
import type { Digest } from '../oci/digest.ts';
import { maxManifestBytes } from '../oci/manifest.ts';
import { digestOf } from './blob-content.ts';
import type { BlobRange } from './blob-range.ts';
import { RegistryError } from './errors.ts';
import type { BlobReader, CallOptions } from './interface.ts';
import { LayoutContents } from './layout-contents.ts';
import { checkDigest } from './names.ts';
import { scanArchive } from './layout/archive-scan.ts';
import type { ArchiveMember } from './layout/archive-scan.ts';
import { ArchiveWriter } from './layout/archive-writer.ts';
import { isNotFound } from './store/durable-file.ts';
import { openFileBlob } from './store/file-blob.ts';
import type { LayoutFiles } from './layout/layout-files.ts';
import { emptyIndex, layoutFile } from './layout/layout-index.ts';

/**
 * A tar of an OCI image layout (`oci-archive:` of other tools, what `docker save` writes) as a registry with a single repository. One that was
 * opened is only read; one that is made takes blobs and manifests until `close`, and is a file only then.
 */
export class LayoutArchive extends LayoutContents {
  readonly file: string;
  readonly #files: ArchiveFiles;

  private constructor(file: string, files: ArchiveFiles) {
    super(files);
    this.file = file;
    this.#files = files;
  }

  /** Reads the headers of the tar. No file stays open. Errors: NAME_UNKNOWN, UNSUPPORTED when it is compressed, UNKNOWN when it is damaged. */
  static async open(file: string, options: CallOptions = {}): Promise<LayoutArchive> {
    const absolute = path.resolve(file);
    return new LayoutArchive(absolute, await readArchive(absolute, options));
  }

  /** Errors: DENIED when there is such a file, unless it is to be replaced. The caller ends it with `close` or `discard`. */
  static async create(file: string, options: { readonly replace?: boolean | undefined } = {}): Promise<LayoutArchive> {
    const absolute = path.resolve(file);
    const writer = await ArchiveWriter.create(absolute, options.replace === true);
    return new LayoutArchive(absolute, new ArchiveFiles(absolute, new Map(), undefined, () => true, writer));
  }

  /** Bodies are taken one after the other. Errors: also UNSUPPORTED when the archive is not being made. */
  override async pushBlob(
    _repository: string,
    descriptor: Descriptor,
    body: () => Readable,
    options: CallOptions = {},
  ): Promise<Descriptor> {
    await this.#files.append(descriptor, body, options);
    return descriptor;
  }

  /** Puts an archive that is being made in its place, durably; when that fails nothing is left of it. Errors: DENIED when a file came there meanwhile. */
  async close(): Promise<void> {
    await this.#files.finish();
  }

  /** Gives up an archive that is being made; nothing after `close`. Idempotent. */
  async discard(): Promise<void> {
    await this.#files.writer?.discard();
  }
}

class ArchiveFiles implements LayoutFiles {
  readonly name: string;
  readonly writer: ArchiveWriter | undefined;
  readonly #file: string;
  readonly #blobs: Map<Digest, ArchiveMember>;
  readonly #isCurrent: (file: Stats) => boolean;
  #index: Uint8Array | undefined;

  constructor(
    file: string,
    blobs: Map<Digest, ArchiveMember>,
    index: Uint8Array | undefined,
    isCurrent: (file: Stats) => boolean,
    writer: ArchiveWriter | undefined,
  ) {
    this.name = `oci archive ${file}`;
    this.writer = writer;
    this.#file = file;
    this.#blobs = blobs;
    this.#index = index;
    this.#isCurrent = isCurrent;
  }

  get index() {
    return {
      name: this.name,
      read: () => Promise.resolve(this.#index),
      write: async (text: string) => {
        this.#mustBeMade();
        this.#index = Buffer.from(text);
      },
      // Nobody else can see it.
      lock: () => Promise.resolve({ [Symbol.dispose]: () => {} }),
    };
  }

  async open(digest: Digest, range: BlobRange | undefined, options: CallOptions): Promise<BlobReader | undefined> {
    const member = this.#blobs.get(digest);
    if (member === undefined) return undefined;
    const section = { ...member, isCurrent: this.#isCurrent };
    return await openFileBlob(this.writer?.path ?? this.#file, digest, range, options, section);
  }

  size(digest: Digest): Promise<number | undefined> {
    return Promise.resolve(this.#blobs.get(digest)?.size);
  }

  async putManifest(descriptor: Descriptor, bytes: Uint8Array, options: CallOptions): Promise<void> {
    await this.append(descriptor, () => Readable.from([bytes]), options);
  }

  async append(descriptor: Descriptor, body: () => Readable, options: CallOptions): Promise<void> {
    const writer = this.#mustBeMade();
    const { digest } = descriptor;
    const name = `blobs/${digestAlgorithm(checkDigest(digest))}/${digestHex(digest)}`;
    // Looked at again in its turn: the same blob may be under way.
    const needed = () => this.#blobs.get(digest)?.size !== descriptor.size;
    if (needed())
      await writer.append(name, descriptor, body, { needed, made: (at) => this.#blobs.set(digest, at) }, options);
  }

  async finish(): Promise<void> {
    const writer = this.#mustBeMade();
    const index = this.#index ?? Buffer.from(JSON.stringify(emptyIndex));
    try {
      await this.#appendFile(writer, 'index.json', index);
      await this.#appendFile(writer, 'oci-layout', Buffer.from(layoutFile));
      await writer.finish();
    } finally {
      await writer.discard();
    }
  }

  async #appendFile(writer: ArchiveWriter, name: string, content: Uint8Array): Promise<void> {
    const descriptor = { mediaType: '', digest: digestOf(content), size: content.byteLength };
    await writer.append(name, descriptor, () => Readable.from([content]));
  }

  #mustBeMade(): ArchiveWriter {
    if (this.writer !== undefined) return this.writer;
    throw new RegistryError('UNSUPPORTED', 'an oci archive is only read: make a copy of it to change it');
  }
}

async function readArchive(file: string, options: CallOptions): Promise<ArchiveFiles> {
  const found = await stat(file).catch((error: unknown) => {
    if (isNotFound(error)) return undefined;
    throw error;
  });
  // Opening a pipe would wait for somebody to write to it.
  if (found?.isFile() !== true)
    throw new RegistryError(
      'NAME_UNKNOWN',
      `oci archive ${file} ${found === undefined ? 'not found' : 'is not a file'}`,
    );
  const handle = await open(file, 'r');
  try {
    const { dev, ino, size, mtimeMs } = await handle.stat();
    const { blobs, files } = await scanArchive(handle, file, options);
    const index = files.get('index.json');
    if (index === undefined || !files.has('oci-layout')) {
      const missing = index === undefined ? 'index.json' : 'oci-layout';
      throw new RegistryError(
        'NAME_UNKNOWN',
        `${file} is a tar, but not of an oci image layout (it has no ${missing})`,
      );
    }
    if (index.size > maxManifestBytes)
      throw new RegistryError('TOO_LARGE', `index.json of oci archive ${file} has ${index.size} bytes`);
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(index.size), 0, index.size, index.offset);
    const isCurrent = (now: Stats) =>
      now.dev === dev && now.ino === ino && now.size === size && now.mtimeMs === mtimeMs;
    return new ArchiveFiles(file, blobs, buffer.subarray(0, bytesRead), isCurrent, undefined);
  } finally {
    await handle.close();
  }
}
