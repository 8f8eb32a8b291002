import { addon } from './addon.ts';

/** What native/src/binding/sys.cpp exports for this. */
interface Native {
  sysMapResident(path: string, limit: number): Promise<object>;
  sysUnmapResident(handle: object): void;
}

const native = (): Native => addon() as Native;

/** A file whose pages stay in memory while they can, because this process has them mapped. */
export interface ResidentFile {
  /** Idempotent; the pages become ordinary page cache. */
  release(): void;
}

/**
 * Reads the whole file into memory and maps it. Never for a path that this process serves.
 * Errors: errno codes; EFBIG for a file of more than `limit` bytes, EINVAL for what is no regular file or empty.
 */
export async function keepResident(path: string, limit: number): Promise<ResidentFile> {
  const handle = await native().sysMapResident(path, limit);
  return { release: () => native().sysUnmapResident(handle) };
}
