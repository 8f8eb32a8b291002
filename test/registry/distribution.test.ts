// The distribution spec at our server over each store, through our own client, and at a registry by other people whose known deviations
// show that the requirements can fail.
import { DirRegistry } from '../../src/registry/dir-registry.ts';
import type { Registry } from '../../src/registry/interface.ts';
import { MemoryRegistry } from '../../src/registry/memory-registry.ts';
import { pullThrough } from '../../src/registry/pull-through.ts';
import { RemoteRegistry } from '../../src/registry/remote-registry.ts';
import { serveRegistry } from '../../src/registry/serve-registry.ts';
import { distributionConformance } from '../conformance/distribution/distribution.ts';
import { dockerRegistryDeviations } from '../conformance/distribution/docker-registry.ts';
import type { DistributionTarget } from '../conformance/distribution/suite.ts';
import { startDockerRegistry } from '../support/docker-registry.ts';
import { isFullScale } from '../support/fixtures.ts';
import { keptMemoryDir } from '../support/tmp.ts';

async function served(registry: Registry, close: () => Promise<void> | void = () => {}): Promise<DistributionTarget> {
  const server = await serveRegistry(registry);
  return {
    url: server.url,
    close: async () => {
      await server.close();
      await close();
    },
  };
}

async function overDir(): Promise<DistributionTarget> {
  const dir = keptMemoryDir();
  return await served(new DirRegistry(dir.path), () => dir[Symbol.dispose]());
}

distributionConformance('the embedded server over a directory', overDir);

// For a short run one store is enough: what stores and caches have in common has tests of its own.
if (isFullScale()) {
  distributionConformance('the embedded server over memory', async () => await served(new MemoryRegistry()));
  distributionConformance('the embedded server as a caching proxy', cachingProxy);
}

distributionConformance('the embedded server in front of the client', async () => {
  const inner = await overDir();
  const client = new RemoteRegistry({ host: new URL(inner.url).host });
  return await served(client, async () => {
    await client.close();
    await inner.close();
  });
});

async function cachingProxy(): Promise<DistributionTarget> {
  const upstream = await overDir();
  const dir = keptMemoryDir();
  const client = new RemoteRegistry({ host: new URL(upstream.url).host });
  const cache = pullThrough(client, new DirRegistry(dir.path), { writes: 'upstream' });
  return await served(cache, async () => {
    await cache.close();
    await client.close();
    await upstream.close();
    dir[Symbol.dispose]();
  });
}

distributionConformance(
  'docker-registry',
  async () => {
    const registry = await startDockerRegistry();
    return { url: `http://${registry.host}`, close: async () => await registry.close() };
  },
  dockerRegistryDeviations,
);
