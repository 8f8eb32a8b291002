import { BaseRegistry } from './base-registry.ts';
import type { Registry } from './interface.ts';

const calls = Object.getOwnPropertyNames(BaseRegistry.prototype).filter(
  (name): name is keyof Registry => name !== 'constructor',
);

/** A registry out of the functions in `table`. Errors: UNSUPPORTED from every call that it has none for. */
export function funcs(table: Partial<Registry>): Registry {
  const registry = new BaseRegistry();
  for (const name of calls) {
    const value = table[name]?.bind(table);
    if (value !== undefined) Object.defineProperty(registry, name, { value });
  }
  return registry;
}
