// The fuse-native package copies attribute values and lists without looking at the size of the reader's buffer, so that a reader
// who tries a small one first gets EIO. Its own handlers are replaced by ones that answer ERANGE.
import { constants } from 'node:os';
import type { FuseOperations } from './fuse-operations.ts';

export interface FuseInstance {
  readonly ops: FuseOperations;
  mount(done: (error: Error | null) => void): void;
}

export type FuseConstructor = new (
  dir: string,
  operations: FuseOperations,
  options: Record<string, unknown>,
) => FuseInstance;

/** How the package is answered: bytes or a negative errno, and the buffer that was filled. */
type Answer = (result: number, buffer: ArrayBufferLike) => void;

const { ENODATA, ERANGE } = constants.errno;

export function withBoundedXattrs(Fuse: FuseConstructor): FuseConstructor {
  return class extends Fuse {
    _op_getxattr(answer: Answer, path: string, name: string, buffer: Buffer, position: number): void {
      this.ops.getxattr(path, name, position, (error, value) => {
        answer(error !== 0 ? error : fill(buffer, value), buffer.buffer);
      });
    }

    _op_listxattr(answer: Answer, path: string, buffer: Buffer): void {
      this.ops.listxattr(path, (error, names = []) => {
        const list = Buffer.from(names.map((name) => `${name}\0`).join(''), 'latin1');
        answer(error !== 0 ? error : fill(buffer, list), buffer.buffer);
      });
    }
  };
}

/** An empty buffer asks for the size alone (getxattr(2)). */
function fill(buffer: Buffer, value: Uint8Array | undefined): number {
  if (value === undefined) return -ENODATA;
  if (buffer.length === 0) return value.length;
  if (value.length > buffer.length) return -ERANGE;
  buffer.set(value);
  return value.length;
}
