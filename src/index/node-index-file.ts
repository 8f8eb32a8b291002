import { createHash } from 'node:crypto';
import { closeSync, fstatSync, openSync, read, readSync } from 'node:fs';
import { promisify } from 'node:util';
import { IndexError } from './errors.ts';
import type { IndexLimits } from './limits.ts';
import {
  checkOf,
  hashedHeaderSize,
  headerSize,
  nodeIndexMagic,
  nodeIndexVersions,
  type SectionName,
  sectionNames,
} from './node-index-format.ts';

const readAt = promisify(read);

interface Section {
  readonly offset: number;
  readonly length: number;
  readonly check: Buffer;
}

/** An open index file whose header is verified; sections are verified as they are read. */
export class NodeIndexFile {
  readonly path: string;
  readonly size: number;
  readonly version: number;
  readonly fingerprint: Uint8Array;
  readonly #fd: number;
  readonly #sections: ReadonlyMap<SectionName, Section>;
  readonly #reads = new Set<Promise<unknown>>();
  #closing: Promise<void> | undefined;

  private constructor(path: string, fd: number, header: Buffer) {
    this.path = path;
    this.size = Number(header.readBigUInt64LE(16));
    this.version = header.readUInt32LE(8);
    this.fingerprint = new Uint8Array(header.subarray(hashedHeaderSize));
    this.#fd = fd;
    this.#sections = readSections(header);
  }

  /**
   * Without waiting: after a restart hundreds are opened while containers wait.
   * Errors: ERR_INDEX_VERSION when a newer release wrote it, ERR_INDEX_CHECKSUM when it is damaged or cut short,
   * ERR_INDEX_LIMIT, ENOENT and others of the file system.
   */
  static open(path: string, limits: IndexLimits): NodeIndexFile {
    const fd = openSync(path, 'r');
    try {
      const header = Buffer.alloc(headerSize);
      checkHeader(path, header.subarray(0, readSync(fd, header, 0, headerSize, 0)));
      const file = new NodeIndexFile(path, fd, header);
      const { size } = fstatSync(fd);
      if (size !== file.size) throw file.damaged(`has ${size} bytes instead of ${file.size}`);
      for (const { offset, length } of file.#sections.values()) {
        if (offset < headerSize || offset + length > size) throw file.damaged('has a section outside of itself');
        if (length > limits.blobBytes)
          throw new IndexError('ERR_INDEX_LIMIT', `${path} has a section of ${length} bytes`);
      }
      return file;
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  /** Errors: ERR_INDEX_CHECKSUM, also when the file was cut short after it was opened. */
  async section(name: SectionName): Promise<Buffer> {
    const section = this.#section(name);
    return this.#verified(name, section, await this.read(section.offset, section.length));
  }

  /** As `section`, for callers that cannot wait. */
  sectionSync(name: SectionName): Buffer {
    const section = this.#section(name);
    const bytes = Buffer.alloc(section.length);
    const bytesRead = readSync(this.#openFd, bytes, 0, section.length, section.offset);
    return this.#verified(name, section, bytes.subarray(0, bytesRead));
  }

  /** `length` bytes at `offset`; shorter at the end of the file. */
  async read(offset: number, length: number): Promise<Buffer> {
    const reading = readAt(this.#openFd, Buffer.allocUnsafeSlow(length), 0, length, offset);
    this.#reads.add(reading);
    try {
      const { buffer, bytesRead } = await reading;
      return buffer.subarray(0, bytesRead);
    } finally {
      this.#reads.delete(reading);
    }
  }

  damaged(how: string): IndexError {
    return new IndexError('ERR_INDEX_CHECKSUM', `index file ${this.path} ${how}`);
  }

  /** Reads under way end first; without any it is closed when this returns. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    // Another file may have the number the next moment.
    if (this.#reads.size > 0) await Promise.allSettled(this.#reads);
    closeSync(this.#fd);
  }

  get #openFd(): number {
    if (this.#closing !== undefined)
      throw Object.assign(new Error(`index file ${this.path} is closed`), { code: 'EBADF' });
    return this.#fd;
  }

  #section(name: SectionName): Section {
    return this.#sections.get(name) as Section;
  }

  #verified(name: SectionName, section: Section, bytes: Buffer): Buffer {
    if (bytes.length !== section.length || !checkOf(bytes).equals(section.check)) {
      throw this.damaged(`is damaged in its ${name}`);
    }
    return bytes;
  }
}

function checkHeader(path: string, header: Buffer): void {
  const damaged = (how: string): IndexError => new IndexError('ERR_INDEX_CHECKSUM', `index file ${path} ${how}`);
  if (header.length < headerSize) throw damaged(`has only ${header.length} bytes`);
  if (!header.subarray(0, 8).equals(nodeIndexMagic)) throw damaged('does not begin like one');
  // Before the checksum: a newer version may keep it elsewhere.
  const version = header.readUInt32LE(8);
  const newest = nodeIndexVersions.remoteWindows;
  if (version > newest) {
    throw new IndexError(
      'ERR_INDEX_VERSION',
      `index file ${path} has version ${version}, this release reads up to ${newest}`,
    );
  }
  const hash = createHash('sha256').update(header.subarray(0, hashedHeaderSize)).digest();
  if (!hash.equals(header.subarray(hashedHeaderSize))) throw damaged('is damaged in its header');
}

function readSections(header: Buffer): Map<SectionName, Section> {
  return new Map(
    sectionNames.map((name, i) => {
      const at = 24 + 32 * i;
      const offset = Number(header.readBigUInt64LE(at));
      const length = Number(header.readBigUInt64LE(at + 8));
      return [name, { offset, length, check: header.subarray(at + 16, at + 32) }];
    }),
  );
}
