import { describe, expect, it, onTestFinished } from 'vitest';
import { RemoteRegistry } from '../../../src/registry/remote-registry.ts';
import { startFaultyRegistry } from '../../support/faulty-registry.ts';
import { readAll } from '../../support/registry-content.ts';
import { fixed, password, tokenWorld } from '../../support/token-world.ts';

describe('redirects', () => {
  it('to another origin carry no Authorization, and are remembered until they expire', async () => {
    const world = await tokenWorld();
    const { layer } = world.image;
    let expired = false;
    const storage = await startFaultyRegistry(undefined, (request, response) => {
      if (expired && request.url?.includes('signature=1') === true) {
        response.writeHead(403).end('<Error>expired</Error>');
        return true;
      }
      const match = /bytes=(\d+)-(\d+)/.exec(request.headers.range ?? '');
      const [from, to] = [Number(match?.[1]), Number(match?.[2]) + 1];
      response
        .writeHead(206, { 'content-range': `bytes ${from}-${to - 1}/${layer.bytes.length}` })
        .end(layer.bytes.subarray(from, to));
      return true;
    });
    onTestFinished(async () => await storage.close());
    let signatures = 0;
    const guard = world.registry.fault;
    world.registry.fault = async (request, response) => {
      if (await guard(request, response)) return true;
      if (request.url?.includes('/blobs/') !== true) return false;
      signatures += 1;
      response.writeHead(307, { location: `${storage.url}/store?signature=${signatures}` }).end();
      return true;
    };
    const registry = world.client({ credentials: fixed(password) });
    const read = async (from: number, to: number) =>
      await readAll(await registry.getBlobRange('a/b', layer.descriptor.digest, from, to));
    expect(await read(0, 10)).toEqual(layer.bytes.subarray(0, 10));
    expect(await read(10, 20)).toEqual(layer.bytes.subarray(10, 20));
    expect(signatures).toBe(1);
    expired = true;
    expect(await read(20, 30)).toEqual(layer.bytes.subarray(20, 30));
    expect(signatures).toBe(2);
    world.registry.fault = guard;
    expired = true;
    storage.fault = (_request, response) => (response.writeHead(403).end(), true);
    expect(await read(30, 40)).toEqual(layer.bytes.subarray(30, 40));
    expect(await read(40, 50)).toEqual(layer.bytes.subarray(40, 50));
    expect(storage.requests).toEqual([1, 1, 1, 2, 2].map((n) => `GET /store?signature=${n}`));
    expect(storage.headers.every(({ authorization }) => authorization === undefined)).toBe(true);
  });

  it('within the registry keep it', async () => {
    const world = await tokenWorld();
    const guard = world.registry.fault;
    world.registry.fault = async (request, response) => {
      if (request.url === '/v2/a/b/manifests/old') {
        response.writeHead(302, { location: '/v2/a/b/manifests/v1' }).end();
        return true;
      }
      return await guard(request, response);
    };
    expect((await world.client().resolveTag('a/b', 'old')).digest).toBe(world.image.manifest.descriptor.digest);
  });

  it('to a server that asks for credentials get none', async () => {
    const other = await startFaultyRegistry(undefined, (_request, response) => {
      response.writeHead(401, { 'www-authenticate': 'Basic realm="give me"' }).end();
      return true;
    });
    const first = await startFaultyRegistry(undefined, (_request, response) => {
      response.writeHead(302, { location: `${other.url}/steal` }).end();
      return true;
    });
    const registry = new RemoteRegistry({ host: first.host, credentials: fixed(password) });
    onTestFinished(async () => {
      await registry.close();
      await first.close();
      await other.close();
    });
    await expect(registry.resolveTag('a/b', 'v1')).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
    expect(other.headers.map(({ authorization }) => authorization)).toEqual([undefined]);
  });
});
