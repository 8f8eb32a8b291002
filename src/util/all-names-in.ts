import { readdir } from 'node:fs/promises';

/** Names in a folder, in no order; undefined when there is no such folder. Errors: errno codes of one that cannot be read. */
export async function allNamesIn(dir: string): Promise<string[] | undefined> {
  try {
    return await readdir(dir);
  } catch (error) {
    if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR'))
      return undefined;
    throw error;
  }
}
