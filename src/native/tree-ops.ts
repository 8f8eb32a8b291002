// What a TreeWriter does, one operation after the other. Paths are clean (no leading slash, no `.` or `..`), relative to its directory,
// one character per byte. No component of the way to a path is followed when it is a symbolic link: the operation fails with ELOOP or ENOTDIR.

export interface NodeAttributes {
  /** 07777. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Seconds since the epoch, may be negative, and nanoseconds. */
  readonly mtime: number;
  readonly mtimeNs: number;
  readonly xattrs: ReadonlyMap<string, Uint8Array>;
}

export interface StreamExtent {
  readonly fileOffset: number;
  readonly streamOffset: number;
  readonly size: number;
}

export type TreeOp =
  /** 0700 and the writer's own until it is described. EEXIST when something is there. */
  | { readonly op: 'mkdir'; readonly path: string }
  /** Its data are copied from stream number `stream` as far as that is written; what no extent covers is a hole. */
  | {
      readonly op: 'file';
      readonly path: string;
      readonly attributes: NodeAttributes;
      readonly size: number;
      readonly stream: number;
      readonly extents: readonly StreamExtent[];
    }
  | {
      readonly op: 'symlink';
      readonly path: string;
      readonly target: string;
      readonly attributes: NodeAttributes;
    }
  | {
      readonly op: 'node';
      readonly path: string;
      readonly kind: 'char' | 'block' | 'fifo';
      readonly major: number;
      readonly minor: number;
      readonly attributes: NodeAttributes;
    }
  | { readonly op: 'link'; readonly path: string; readonly existing: string }
  /** A file, or a directory with all that is below it; not what is mounted there. ENOENT when nothing is there. */
  | { readonly op: 'remove'; readonly path: string }
  /** Attributes of a directory that is there; '' is the writer's own. */
  | { readonly op: 'describe'; readonly path: string; readonly attributes: NodeAttributes };
