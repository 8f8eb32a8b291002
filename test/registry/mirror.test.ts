import { DirRegistry } from '../../src/registry/dir-registry.ts';
import { mirror } from '../../src/registry/registry.ts';
import { registryConformance } from '../conformance/registry.ts';
import { keptTempDir } from '../support/tmp.ts';

registryConformance('mirror of an empty mirror and the origin', async () => {
  const dirs = [keptTempDir(), keptTempDir()] as const;
  const registry = mirror([
    { name: 'near', registry: new DirRegistry(dirs[0].path), capabilities: new Set(['pull', 'resolve']) },
    { name: 'origin', registry: new DirRegistry(dirs[1].path), capabilities: new Set(['pull', 'resolve', 'push']) },
  ]);
  return { registry, close: async () => dirs.forEach((dir) => dir[Symbol.dispose]()) };
});
