import { mkdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';

/**
 * Makes a directory and those above it that are missing; one that is there already is fine. Errors: those of mkdir(2), EEXIST
 * when the last name is something else. Unlike Node's own recursive mkdir it ends where a directory exists and yet nothing can be
 * made in it with ENOENT, as anywhere below /proc. `made` is told each one that was not there, those above first.
 */
export async function makeDirectory(
  path: string,
  mode = 0o777,
  made: (directory: string) => void = () => {},
): Promise<void> {
  if (await tryMake(path, mode, made)) return;
  const parent = dirname(path);
  if (parent !== path) await makeDirectory(parent, mode, made);
  await make(path, mode, made);
}

/** False when the directory above is missing. */
async function tryMake(path: string, mode: number, made: (directory: string) => void): Promise<boolean> {
  try {
    await make(path, mode, made);
    return true;
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return false;
    throw error;
  }
}

async function make(path: string, mode: number, made: (directory: string) => void): Promise<void> {
  try {
    await mkdir(path, { mode });
    made(path);
  } catch (error) {
    // Also one on a read-only file system, where the kernel may say that instead of EEXIST.
    if (codeOf(error) === 'ENOENT' || !(await isDirectory(path))) throw error;
  }
}

async function isDirectory(path: string): Promise<boolean> {
  return await stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined;
}
