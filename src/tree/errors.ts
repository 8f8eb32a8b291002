export type TreeErrorCode =
  /** An entry's name is not one that a tree can hold: `..`, NUL, too long, or no name at all. */
  | 'ERR_TREE_PATH'
  /** A component of an entry's path is neither a directory nor a link to one. */
  | 'ERR_TREE_PARENT'
  /** Too many symbolic links on the way to a path. */
  | 'ERR_TREE_LOOP'
  /** A hard link whose target is missing, outside the tree, a directory or itself. */
  | 'ERR_TREE_HARDLINK'
  /** A hard link to a file that a lower layer brings: a tree of this layer alone cannot hold it. */
  | 'ERR_TREE_LOWER_LINK'
  /** A device that means "nothing here" to overlayfs. */
  | 'ERR_TREE_DEVICE'
  /** What the layer's tree is depends on the layers below it, which are not known. */
  | 'ERR_TREE_BELOW'
  /** A symbolic link's target is empty, has a NUL or is longer than the kernel reads. */
  | 'ERR_TREE_SYMLINK'
  /** A whiteout that names nothing. */
  | 'ERR_TREE_WHITEOUT'
  /** An entry's data lie past the stream, outside the file, or over another entry's header. */
  | 'ERR_TREE_EXTENT'
  /** File data that do not lie on 512-byte boundaries of file and stream cannot be mapped. */
  | 'ERR_TREE_UNALIGNED'
  /** A device number, time or attribute that the image format has no room for. */
  | 'ERR_TREE_VALUE'
  /** Bytes that are not the EROFS image of an archive's tree. */
  | 'ERR_TREE_IMAGE'
  /** More nodes, longer paths or larger indexes than the limits allow. */
  | 'ERR_TREE_LIMIT';

/** Entries that do not make a tree, or a tree that cannot be written. The message names the entry. */
export class TreeError extends Error {
  readonly code: TreeErrorCode;

  constructor(code: TreeErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'TreeError';
    this.code = code;
  }
}
