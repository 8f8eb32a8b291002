import type { ByteString } from '../util/byte-string.ts';

export type EntryType = 'file' | 'dir' | 'symlink' | 'hardlink' | 'char' | 'block' | 'fifo';

/** A run of file bytes stored contiguously in the layer stream. Everything a file's extents do not cover is a hole. */
export interface Extent {
  /** Bytes from the start of the file. */
  readonly fileOffset: number;
  /** Bytes from the start of the layer stream (the uncompressed tar). */
  readonly streamOffset: number;
  /** Bytes. */
  readonly size: number;
}

/** One tar member as it stands in the archive: whiteouts are plain entries here, paths are not yet cleaned or judged. */
export interface TarEntry {
  /** As in the archive after PAX/GNU long names are applied; a leading `./` or `/` and a trailing `/` are kept. */
  readonly path: ByteString;
  readonly type: EntryType;
  /** Permission bits with setuid, setgid and sticky (07777). */
  readonly mode: number;
  /** The header's mode field where it holds more than `mode`: old tars repeat the file type in it. A zTOC stores it. */
  readonly rawMode?: number;
  readonly uid: number;
  readonly gid: number;
  readonly uname: ByteString;
  readonly gname: ByteString;
  /** Seconds since the epoch, may be negative. */
  readonly mtime: number;
  /** Nanoseconds within the second, 0..999999999. */
  readonly mtimeNs: number;
  /** Logical size in bytes (of the expanded file when sparse); 0 for anything but `file`. */
  readonly size: number;
  /** Target of a symlink or hard link, else empty. */
  readonly link: ByteString;
  readonly devMajor: number;
  readonly devMinor: number;
  /** Full attribute name (`user.x`, `security.capability`) to raw value. */
  readonly xattrs: ReadonlyMap<ByteString, Uint8Array>;
  /** All raw PAX records of this entry (path, size, SCHILY.xattr.* …): a zTOC stores these. */
  readonly pax: ReadonlyMap<ByteString, Uint8Array>;
  /** Ascending, not overlapping; one extent for an ordinary non-empty file. */
  readonly extents: readonly Extent[];
  /** True for GNU and PAX sparse files, which a zTOC cannot describe. */
  readonly sparse: boolean;
  /** Stream offset of the first header block (PAX and GNU long-name blocks included). */
  readonly headerOffset: number;
  /** Stream offset just behind the header, where the archive's data area starts. */
  readonly dataOffset: number;
}
