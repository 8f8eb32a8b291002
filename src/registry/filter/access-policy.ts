import { RegistryError, hasCode } from '../errors.ts';
import type { CallOptions, ListOptions, Registry } from '../interface.ts';
import { checkRepository } from '../names.ts';
import { GatedRegistry } from './gated-registry.ts';
import type { AccessKind } from './gated-registry.ts';

/** What the catalog of repositories is called towards a check. No repository can have this name. */
export const catalogName = '*';

/** True allows; anything else is DENIED. A RegistryError that it throws is what the call ends with instead. */
export type AccessCheck = (repository: string, kind: AccessKind, options: CallOptions) => boolean | Promise<boolean>;

/**
 * Asks `check` before anything else is done with a repository. Its name is known to be one by then. Mounting asks to read the source and to
 * write the target; the catalog has the name `*`, and leaves out what may not be read. An upload that was begun or resumed is not asked about again.
 */
export function accessPolicy(registry: Registry, check: AccessCheck): Registry {
  return new AccessPolicy(registry, check);
}

class AccessPolicy extends GatedRegistry {
  readonly #check: AccessCheck;

  constructor(inner: Registry, check: AccessCheck) {
    super(inner);
    this.#check = check;
  }

  protected override async pass(repository: string, kind: AccessKind, options?: CallOptions): Promise<string> {
    await this.#judge(checkRepository(repository), kind, options);
    return repository;
  }

  override async *repositories(options?: ListOptions): AsyncGenerator<string> {
    await this.#judge(catalogName, 'list', options);
    for await (const repository of this.inner.repositories(options)) {
      if (await this.#mayRead(repository, options)) yield repository;
    }
  }

  async #judge(name: string, kind: AccessKind, options: CallOptions = {}): Promise<void> {
    if (await this.#check(name, kind, { signal: options.signal })) return;
    const object = name === catalogName ? 'the list of repositories' : `repository ${name}`;
    throw new RegistryError('DENIED', `${kind} access to ${object} is denied`);
  }

  async #mayRead(repository: string, options?: CallOptions): Promise<boolean> {
    try {
      await this.pass(repository, 'read', options);
      return true;
    } catch (error) {
      // A check that could not be made is not a refusal: a list must not be short because of it.
      if (hasCode(error, 'DENIED', 'UNAUTHORIZED', 'NAME_UNKNOWN', 'NAME_INVALID')) return false;
      throw error;
    }
  }
}
