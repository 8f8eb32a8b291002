import { statSync } from 'node:fs';
import { stat } from 'node:fs/promises';

/** Tells a file from a later one at its place, also where inode numbers are used again at once. Undefined when there is none. */
export async function fileIdentity(path: string): Promise<string | undefined> {
  return await stat(path, { bigint: true }).then(identityOf, () => undefined);
}

/** The same for those who do so much at once that waiting for each would take longer. */
export function fileIdentityNow(path: string): string | undefined {
  try {
    const found = statSync(path, { bigint: true, throwIfNoEntry: false });
    return found && identityOf(found);
  } catch {
    return undefined;
  }
}

function identityOf({ ino, ctimeNs }: { readonly ino: bigint; readonly ctimeNs: bigint }): string {
  return `${ino} ${ctimeNs}`;
}
