// Whatever is put around a registry that lets everything through is a registry like the one below.
import path from 'node:path';
import {
  DirRegistry,
  RemoteRegistry,
  accessPolicy,
  funcs,
  immutableTags,
  select,
  serveRegistry,
  subPath,
  trace,
  unify,
} from '../../src/registry/registry.ts';
import type { Registry } from '../../src/registry/registry.ts';
import { registryConformance } from '../conformance/registry.ts';
import type { RegistryTraits } from '../conformance/registry.ts';
import { callNames } from '../support/every-call.ts';
import { keptMemoryDir } from '../support/tmp.ts';

function conforms(name: string, wrap: (one: Registry, two: Registry) => Registry, traits?: RegistryTraits): void {
  const start = async () => {
    const dir = keptMemoryDir();
    const [one, two] = ['one', 'two'].map((side) => new DirRegistry(path.join(dir.path, side)));
    return { registry: wrap(one as Registry, two as Registry), close: async () => dir[Symbol.dispose]() };
  };
  registryConformance(name, start, traits);
}

conforms('trace', (r) => trace(r, () => {}));
conforms('select of everything', (r) => select(r, () => true));
conforms('subPath', (r) => subPath(r, 'team/one'));
conforms('accessPolicy that allows everything', (r) => accessPolicy(r, async () => await Promise.resolve(true)));
conforms('immutableTags', (r) => immutableTags(r), { deletesTags: false, movesTags: false });
conforms('immutableTags of no tag', (r) => immutableTags(r, { match: () => false }));
conforms('funcs', (r) => funcs(Object.fromEntries(callNames.map((name) => [name, r[name].bind(r)]))));
conforms('unify in turn', (one, two) => unify(one, two));
conforms('unify at once', (one, two) => unify(one, two, { read: 'concurrent' }));

registryConformance(
  'RemoteRegistry over a server over two registries, one of them remote',
  async () => {
    const dir = keptMemoryDir();
    const far = await serveRegistry(new DirRegistry(path.join(dir.path, 'far')));
    const remote = new RemoteRegistry({ host: far.host });
    const server = await serveRegistry(unify(new DirRegistry(path.join(dir.path, 'near')), remote));
    const registry = new RemoteRegistry({ host: server.host });
    const close = async () => {
      await registry.close();
      await server.close();
      await remote.close();
      await far.close();
      dir[Symbol.dispose]();
    };
    return { registry, close };
  },
  { mountOfMissing: 'UNSUPPORTED' },
);
