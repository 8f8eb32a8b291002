import { open } from 'node:fs/promises';

/** Makes the names in a directory durable. Errors: those of open(2) and fsync(2). */
export async function syncDirectory(dir: string): Promise<void> {
  const directory = await open(dir, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
