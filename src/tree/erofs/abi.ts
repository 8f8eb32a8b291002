// On-disk constants of EROFS (Linux fs/erofs/erofs_fs.h). All numbers are little endian.
export const EROFS_SUPER_OFFSET = 1024;
export const EROFS_SUPER_SIZE = 128;
export const EROFS_SUPER_MAGIC = 0xe0f5e1e2;
export const EROFS_DEVICE_SLOT = 128;

export const EROFS_COMPAT_SB_CHKSUM = 0x1;
export const EROFS_COMPAT_MTIME = 0x2;
export const EROFS_INCOMPAT_CHUNKED_FILE = 0x4;
export const EROFS_INCOMPAT_DEVICE_TABLE = 0x8;

export const EROFS_INODE_SIZE = 64;
export const EROFS_INODE_EXTENDED = 1;
/** nid counts these from the metadata area's start. */
export const EROFS_NID_UNIT = 32;

export const EROFS_FLAT_PLAIN = 0;
export const EROFS_FLAT_INLINE = 2;
export const EROFS_CHUNK_BASED = 4;

export const EROFS_CHUNK_INDEXES = 0x20;
export const EROFS_CHUNK_BITS_MAX = 31;
export const EROFS_CHUNK_INDEX_SIZE = 8;
export const EROFS_NULL_ADDR = 0xffffffff;

export const EROFS_DIRENT_SIZE = 12;
export const EROFS_XATTR_HEADER = 12;

/** dirent file types, and the type bits of i_mode. */
export const fileType = {
  file: { dirent: 1, mode: 0o100000 },
  dir: { dirent: 2, mode: 0o040000 },
  char: { dirent: 3, mode: 0o020000 },
  block: { dirent: 4, mode: 0o060000 },
  fifo: { dirent: 5, mode: 0o010000 },
  symlink: { dirent: 7, mode: 0o120000 },
} as const;

/** Name spaces of extended attributes, others do not exist in the format. Those without a dot are whole names. */
export const xattrPrefixes: readonly { readonly prefix: string; readonly index: number }[] = [
  { prefix: 'user.', index: 1 },
  { prefix: 'system.posix_acl_access', index: 2 },
  { prefix: 'system.posix_acl_default', index: 3 },
  { prefix: 'trusted.', index: 4 },
  { prefix: 'security.', index: 6 },
];
