import { DirRegistry } from '../../src/registry/dir-registry.ts';
import type { Registry } from '../../src/registry/interface.ts';
import { LayoutRegistry } from '../../src/registry/layout-registry.ts';
import { MemoryRegistry } from '../../src/registry/memory-registry.ts';
import { RemoteRegistry } from '../../src/registry/remote-registry.ts';
import { serveRegistry } from '../../src/registry/serve-registry.ts';
import type { ServeOptions } from '../../src/registry/serve-registry.ts';
import { registryConformance } from '../conformance/registry.ts';
import { startDockerRegistry } from '../support/docker-registry.ts';
import { keptTempDir } from '../support/tmp.ts';

registryConformance('DirRegistry', async () => {
  const dir = keptTempDir();
  return { registry: new DirRegistry(dir.path), close: async () => dir[Symbol.dispose]() };
});

registryConformance('MemoryRegistry', async () => ({ registry: new MemoryRegistry(), close: async () => {} }));

registryConformance(
  'LayoutRegistry',
  async () => {
    const dir = keptTempDir();
    return { registry: new LayoutRegistry(dir.path), close: async () => dir[Symbol.dispose]() };
  },
  { severalRepositories: false, deletesBlobs: false, forgetsManifests: false },
);

async function overHttp(options: ServeOptions = {}, make: (dir: string) => Registry = (dir) => new DirRegistry(dir)) {
  const dir = keptTempDir();
  const server = await serveRegistry(make(dir.path), options);
  const registry = new RemoteRegistry({ host: server.host });
  return {
    registry,
    server,
    close: async () => {
      await registry.close();
      await server.close();
      dir[Symbol.dispose]();
    },
  };
}

registryConformance('RemoteRegistry over the embedded server', () => overHttp(), { mountOfMissing: 'UNSUPPORTED' });

registryConformance(
  'RemoteRegistry over the embedded server over MemoryRegistry',
  () => overHttp({}, () => new MemoryRegistry()),
  { mountOfMissing: 'UNSUPPORTED' },
);

registryConformance(
  'RemoteRegistry over the embedded server over LayoutRegistry',
  () => overHttp({}, (dir) => new LayoutRegistry(dir)),
  { severalRepositories: false, deletesBlobs: false, forgetsManifests: false, mountOfMissing: 'UNSUPPORTED' },
);

registryConformance('RemoteRegistry over pages of two items', () => overHttp({ maxPageSize: 2 }), {
  mountOfMissing: 'UNSUPPORTED',
});

registryConformance('RemoteRegistry without the referrers API', () => overHttp({ referrersApi: false }), {
  mountOfMissing: 'UNSUPPORTED',
});

registryConformance(
  'RemoteRegistry through a server through a client',
  async () => {
    const inner = await overHttp();
    const outer = await serveRegistry(inner.registry);
    const registry = new RemoteRegistry({ host: outer.host });
    return {
      registry,
      close: async () => {
        await registry.close();
        await outer.close();
        await inner.close();
      },
    };
  },
  { mountOfMissing: 'UNSUPPORTED' },
);

registryConformance(
  'RemoteRegistry over docker-registry',
  async () => {
    const server = await startDockerRegistry();
    const registry = new RemoteRegistry({ host: server.host });
    return {
      registry,
      close: async () => {
        await registry.close();
        await server.close();
      },
    };
  },
  { deletesTags: false, sha512: false, foreignLayers: false, mountOfMissing: 'UNSUPPORTED' },
);
