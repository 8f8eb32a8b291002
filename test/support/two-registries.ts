import path from 'node:path';
import { DirRegistry, RegistryError, accessPolicy, unify } from '../../src/registry/registry.ts';
import type { Registry, UnifyOptions } from '../../src/registry/registry.ts';
import { tempDir } from './tmp.ts';

export interface TwoRegistries {
  readonly root: string;
  readonly first: DirRegistry;
  readonly second: DirRegistry;
  readonly both: Registry;
}

/** Two stores and both as one. */
export function twoRegistries(options: UnifyOptions = {}): TwoRegistries {
  const root = tempDir();
  const first = new DirRegistry(path.join(root, 'first'));
  const second = new DirRegistry(path.join(root, 'second'));
  return { root, first, second, both: unify(first, second, options) };
}

/** A registry that cannot be reached. */
export function outage(registry: Registry): Registry {
  return accessPolicy(registry, () => {
    throw new RegistryError('UNAVAILABLE', 'the registry is being moved');
  });
}
