import { DirRegistry } from '../../src/registry/dir-registry.ts';
import { pullThrough } from '../../src/registry/registry.ts';
import { registryConformance } from '../conformance/registry.ts';
import { keptTempDir } from '../support/tmp.ts';

registryConformance('pullThrough with writes to upstream', async () => {
  const dirs = [keptTempDir(), keptTempDir()] as const;
  const registry = pullThrough(new DirRegistry(dirs[0].path), new DirRegistry(dirs[1].path), { writes: 'upstream' });
  return { registry, close: async () => dirs.forEach((dir) => dir[Symbol.dispose]()) };
});
