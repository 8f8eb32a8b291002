import { stat } from 'node:fs/promises';

/** Tells a file from a later one at its place, also where inode numbers are used again at once. Undefined when there is none. */
export async function fileIdentity(path: string): Promise<string | undefined> {
  return await stat(path, { bigint: true }).then(
    ({ ino, ctimeNs }) => `${ino} ${ctimeNs}`,
    () => undefined,
  );
}
