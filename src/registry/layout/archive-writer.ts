import { randomBytes } from 'node:crypto';
import { access, open, rename, rm } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import path from 'node:path';
import type { Descriptor } from '../../oci/descriptor.ts';
import { digestAlgorithm } from '../../oci/digest.ts';
import { formatTarHeader, tarEnd, tarPadding } from '../../tar/writer.ts';
import type { ByteString } from '../../util/byte-string.ts';
import { Semaphore } from '../../util/semaphore.ts';
import { contentHash, contentProblem } from '../blob-content.ts';
import { RegistryError } from '../errors.ts';
import type { CallOptions } from '../interface.ts';
import type { ArchiveMember } from './archive-scan.ts';
import { syncDirectory } from '../store/durable-file.ts';

export interface Appended {
  /** Asked in the member's turn; without it nothing is appended. */
  readonly needed?: () => boolean;
  /** Told in the same turn where it lies. */
  readonly made?: (member: ArchiveMember) => void;
}

/**
 * A tar that grows member by member in a file beside its place, and gets there when it is complete. The same members in the same order make the
 * same bytes.
 */
export class ArchiveWriter {
  readonly #file: string;
  readonly #temporary: string;
  readonly #handle: FileHandle;
  readonly #replace: boolean;
  readonly #turns = new Semaphore(1);
  #end = 0;
  #state: 'open' | 'finished' | 'discarded' = 'open';

  private constructor(file: string, temporary: string, handle: FileHandle, replace: boolean) {
    this.#file = file;
    this.#temporary = temporary;
    this.#handle = handle;
    this.#replace = replace;
  }

  /** Errors: DENIED when there is such a file and `replace` is false. */
  static async create(file: string, replace: boolean): Promise<ArchiveWriter> {
    if (!replace) await refuseExisting(file);
    const temporary = path.join(path.dirname(file), `.${path.basename(file)}.${randomBytes(8).toString('hex')}.tmp`);
    return new ArchiveWriter(file, temporary, await open(temporary, 'wx+'), replace);
  }

  /** Where it is now. */
  get path(): string {
    return this.#state === 'finished' ? this.#file : this.#temporary;
  }

  /**
   * Appends a member once those before it are complete; `body` is called then. A body that is not what the descriptor says leaves nothing.
   * Errors: SIZE_INVALID, DIGEST_INVALID, those of the body; the signal's reason; UNSUPPORTED after the end.
   */
  async append(
    name: string,
    descriptor: Descriptor,
    body: () => AsyncIterable<Uint8Array>,
    appended: Appended = {},
    options: CallOptions = {},
  ): Promise<void> {
    await this.#turns.run(async () => {
      this.#mustBeOpen();
      if (appended.needed?.() === false) return;
      const start = this.#end;
      try {
        const member = await this.#write(name, descriptor, body, options);
        appended.made?.(member);
      } catch (error) {
        this.#end = start;
        await this.#handle.truncate(start);
        throw error;
      }
    }, options);
  }

  /** Puts the file in its place, durably. What failed to get there is still to be discarded. Errors: as `create`. */
  async finish(): Promise<void> {
    await this.#turns.run(async () => {
      this.#mustBeOpen();
      await this.#put(tarEnd);
      await this.#handle.sync();
      await this.#handle.close();
      if (!this.#replace) await refuseExisting(this.#file);
      await rename(this.#temporary, this.#file);
      this.#state = 'finished';
    });
    await syncDirectory(path.dirname(this.#file));
  }

  /** Removes what was written, unless it is finished. Idempotent. */
  async discard(): Promise<void> {
    await this.#turns.run(async () => {
      if (this.#state !== 'open') return;
      this.#state = 'discarded';
      await this.#handle.close();
      await rm(this.#temporary, { force: true });
    });
  }

  async #write(
    name: string,
    { digest, size }: Descriptor,
    body: () => AsyncIterable<Uint8Array>,
    options: CallOptions,
  ): Promise<ArchiveMember> {
    await this.#put(formatTarHeader({ ...plainFile, path: name as ByteString, size }));
    const member = { offset: this.#end, size };
    const hash = contentHash(digestAlgorithm(digest));
    let seen = 0;
    for await (const chunk of body()) {
      options.signal?.throwIfAborted();
      seen += chunk.byteLength;
      // More than announced is not written out first.
      if (seen > size) break;
      hash.update(chunk);
      await this.#put(chunk);
    }
    const wrong = contentProblem(digest, size, hash.digest(), seen);
    if (wrong !== null) throw wrong;
    await this.#put(tarPadding(size));
    return member;
  }

  async #put(bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.byteLength; ) {
      const { bytesWritten } = await this.#handle.write(bytes, done, bytes.byteLength - done, this.#end);
      done += bytesWritten;
      this.#end += bytesWritten;
    }
  }

  #mustBeOpen(): void {
    if (this.#state !== 'open') throw new RegistryError('UNSUPPORTED', `the oci archive is ${this.#state}`);
  }
}

const plainFile = {
  type: 'file',
  mode: 0o644,
  uid: 0,
  gid: 0,
  uname: '' as ByteString,
  gname: '' as ByteString,
  mtime: 0,
  mtimeNs: 0,
  link: '' as ByteString,
  devMajor: 0,
  devMinor: 0,
  xattrs: new Map<ByteString, Uint8Array>(),
} as const;

async function refuseExisting(file: string): Promise<void> {
  const exists = await access(file).then(
    () => true,
    () => false,
  );
  if (exists) throw new RegistryError('DENIED', `${file} exists already`);
}
