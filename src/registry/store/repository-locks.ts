import { digestHex } from '../../oci/digest.ts';
import { digestOf } from '../blob-content.ts';
import type { CallOptions } from '../interface.ts';
import { lockFile } from './file-lock.ts';
import type { LockMode } from './file-lock.ts';
import type { StorePaths } from './paths.ts';

/**
 * Whoever changes a repository holds its lock shared; whoever must see it stand still holds it exclusively. Several repositories have one lock,
 * so that the files are few and never removed; nobody may wait for a second one while holding one.
 */
export class RepositoryLocks {
  readonly #paths: StorePaths;

  constructor(paths: StorePaths) {
    this.#paths = paths;
  }

  async enter(repository: string, mode: LockMode, options: CallOptions = {}): Promise<Disposable> {
    const file = this.#paths.lock(digestHex(digestOf(Buffer.from(repository))).slice(0, 2));
    // Who waits for the exclusive lock has the gate: those who come later wait behind it, instead of keeping it out for ever.
    using _gate = await lockFile(`${file}.gate`, mode, options);
    return await lockFile(file, mode, options);
  }
}
