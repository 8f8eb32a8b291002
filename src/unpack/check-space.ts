import { statfs } from 'node:fs/promises';
import { errorMessage } from '../layer/errors.ts';
import { UnpackError } from './errors.ts';

export interface SpaceNeed {
  /** A directory that is there. */
  readonly root: string;
  /** Bytes that all jobs that run, and the one that is about to start, still write. */
  readonly needed: number;
  /** Bytes that have to stay free. */
  readonly reserve: number;
}

/** Errors: ERR_UNPACK_SPACE when an ordinary user has too little; ERR_UNPACK_DISK when the disk does not tell. */
export async function checkSpace({ root, needed, reserve }: SpaceNeed): Promise<void> {
  const { bavail, bsize } = await statfs(root).catch((cause: unknown) => {
    throw new UnpackError('ERR_UNPACK_DISK', `cannot ask for the free space of ${root}: ${errorMessage(cause)}`, {
      cause,
    });
  });
  const free = bavail * bsize;
  if (free - reserve >= needed) return;
  throw new UnpackError(
    'ERR_UNPACK_SPACE',
    `too little space in ${root}: ${free} bytes are free, ${needed} are needed and ${reserve} are to stay free`,
  );
}
