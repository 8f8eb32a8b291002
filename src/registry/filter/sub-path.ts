import type { ListOptions, Registry } from '../interface.ts';
import { checkRepository } from '../names.ts';
import { GatedRegistry } from './gated-registry.ts';

/**
 * The repositories below `prefix`, under their names without it: `team/app` is `app` in the view of `team`. The repository `team` itself is
 * not in it. Errors: NAME_INVALID at once when the prefix is no name.
 */
export function subPath(registry: Registry, prefix: string): Registry {
  return new SubPath(registry, `${checkRepository(prefix)}/`);
}

class SubPath extends GatedRegistry {
  readonly #prefix: string;

  constructor(inner: Registry, prefix: string) {
    super(inner);
    this.#prefix = prefix;
  }

  /** Checked before it is joined, so that `..` is no way out whatever the registry below does with it. Errors: NAME_INVALID. */
  protected override pass(repository: string): string {
    return this.#prefix + checkRepository(repository);
  }

  override async *repositories(options: ListOptions = {}): AsyncGenerator<string> {
    // Names below the prefix come right after the prefix with its slash.
    const startAfter = this.#prefix + (options.startAfter ?? '');
    for await (const name of this.inner.repositories({ ...options, startAfter })) {
      if (!name.startsWith(this.#prefix)) return;
      yield name.slice(this.#prefix.length);
    }
  }
}
