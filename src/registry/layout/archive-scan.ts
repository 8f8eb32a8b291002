// The members of a tar that make up an OCI image layout: where in the file each of them lies. Headers are read, content is passed over.
import type { FileHandle } from 'node:fs/promises';
import { isDigest } from '../../oci/digest.ts';
import type { Digest } from '../../oci/digest.ts';
import type { TarEntry } from '../../tar/entry.ts';
import { TarError } from '../../tar/errors.ts';
import { TarReader } from '../../tar/reader.ts';
import { displayBytes } from '../../util/byte-string.ts';
import { RegistryError } from '../errors.ts';
import type { CallOptions } from '../interface.ts';

/** Bytes of the file. */
export interface ArchiveMember {
  readonly offset: number;
  readonly size: number;
}

export interface ArchiveMembers {
  readonly blobs: Map<Digest, ArchiveMember>;
  readonly files: ReadonlyMap<'index.json' | 'oci-layout', ArchiveMember>;
}

const limits = { maxEntries: 100_000, maxNameBytes: 64 * 1024 * 1024 };
const readSize = 32 * 1024;

const compressions: readonly (readonly [name: string, magic: readonly number[]])[] = [
  ['gzip', [0x1f, 0x8b]],
  ['zstd', [0x28, 0xb5, 0x2f, 0xfd]],
  ['xz', [0xfd, 0x37, 0x7a, 0x58, 0x5a]],
  ['bzip2', [0x42, 0x5a, 0x68]],
];

/**
 * Members of other names are passed over; of two with the same name the last one counts, as when a tar is extracted. `archive` is for messages.
 * Errors: UNSUPPORTED when it is compressed; NAME_UNKNOWN when it is no tar; UNKNOWN when it is damaged, too large, or has links for blobs.
 */
export async function scanArchive(
  handle: FileHandle,
  archive: string,
  options: CallOptions = {},
): Promise<ArchiveMembers> {
  const blobs = new Map<Digest, ArchiveMember>();
  const files = new Map<'index.json' | 'oci-layout', ArchiveMember>();
  for await (const entry of members(handle, archive, options)) {
    const name = entry.path.replace(/^(?:\.\/)+/, '');
    const [, algorithm, hex] = /^blobs\/([a-z0-9]+)\/([0-9a-f]+)$/.exec(name) ?? [];
    const digest = `${algorithm}:${hex}`;
    const file = name === 'index.json' || name === 'oci-layout' ? name : undefined;
    if (file === undefined && !isDigest(digest)) continue;
    if (entry.type !== 'file' || entry.sparse)
      throw damaged(archive, `${displayBytes(entry.path)} is ${entry.sparse ? 'a sparse file' : `a ${entry.type}`}`);
    const member = { offset: entry.dataOffset, size: entry.size };
    if (isDigest(digest)) blobs.set(digest, member);
    if (file !== undefined) files.set(file, member);
  }
  return { blobs, files };
}

async function* members(handle: FileHandle, file: string, options: CallOptions): AsyncGenerator<TarEntry> {
  const { size } = await handle.stat();
  const reader = new TarReader(limits);
  const buffer = Buffer.allocUnsafe(readSize);
  try {
    for (let position = 0; position < size; ) {
      options.signal?.throwIfAborted();
      const { bytesRead } = await handle.read(buffer, 0, readSize, position);
      if (bytesRead === 0) break;
      const chunk = buffer.subarray(0, bytesRead);
      if (position === 0) refuseCompressed(chunk, file);
      yield* reader.push(chunk);
      position += bytesRead;
      const skipped = Math.min(reader.toSkip, size - position);
      reader.advance(skipped);
      position += skipped;
    }
    reader.finish();
  } catch (error) {
    if (!(error instanceof TarError)) throw error;
    if (error.code === 'ERR_TAR_HEADER' && error.offset === 0)
      throw new RegistryError('NAME_UNKNOWN', `${file} is not a tar archive`, { cause: error });
    throw damaged(file, error.message, error);
  }
}

function refuseCompressed(head: Buffer, file: string): void {
  for (const [name, magic] of compressions) {
    if (magic.every((byte, at) => head[at] === byte))
      throw new RegistryError('UNSUPPORTED', `${file} is compressed with ${name}: decompress it first`);
  }
}

function damaged(file: string, why: string, cause?: Error): RegistryError {
  return new RegistryError('UNKNOWN', `oci archive ${file} cannot be used: ${why}`, { cause });
}
