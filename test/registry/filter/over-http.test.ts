// Filters where they are used: between a server and a client, as a proxy has them.
import { request } from 'undici';
import { beforeAll, afterAll, describe, expect, it } from 'vitest';
import {
  DirRegistry,
  RemoteRegistry,
  readOnly,
  select,
  serveRegistry,
  subPath,
} from '../../../src/registry/registry.ts';
import type { Registry, RegistryServer } from '../../../src/registry/registry.ts';
import { content, digestOf, pushImage } from '../../support/registry-content.ts';
import { keptTempDir } from '../../support/tmp.ts';

describe('filters between a server and a client', () => {
  const dir = keptTempDir();
  const store = new DirRegistry(dir.path);
  const servers: RegistryServer[] = [];
  let upstream: RemoteRegistry;

  async function serve(registry: Registry): Promise<string> {
    const server = await serveRegistry(registry);
    servers.push(server);
    return server.host;
  }

  beforeAll(async () => {
    for (const name of ['team/app', 'secret', 'teammate/app']) await pushImage(store, name, 'v1');
    upstream = new RemoteRegistry({ host: await serve(store) });
  });
  afterAll(async () => {
    await upstream.close();
    for (const server of servers) await server.close();
    dir[Symbol.dispose]();
  });

  it('answer 405 to who would change a read-only registry', async () => {
    const host = await serve(readOnly(store));
    const { digest } = content('x').descriptor;
    for (const [method, path] of [
      ['POST', '/v2/team/app/blobs/uploads/'],
      ['POST', `/v2/team/app/blobs/uploads/?mount=${digest}&from=secret`],
      ['PUT', '/v2/team/app/manifests/v1'],
      ['DELETE', '/v2/team/app/manifests/v1'],
      ['DELETE', `/v2/team/app/blobs/${digest}`],
    ] as const) {
      const { statusCode, body } = await request(`http://${host}${path}`, {
        method,
        headers: { 'content-type': 'a/b' },
      });
      expect([statusCode, await body.json()]).toEqual([
        405,
        { errors: [expect.objectContaining({ code: 'UNSUPPORTED' })] },
      ]);
    }
    expect((await request(`http://${host}/v2/team/app/manifests/v1`, { method: 'HEAD' })).statusCode).toBe(200);
  });

  it('do not let a forged upload leave its repository', async () => {
    const before = await store.getTag('secret', 'v1');
    const forged = [
      '/v2/secret/manifests/v1',
      '/v2/secret/blobs/uploads/x',
      '/v2/team/app/blobs/uploads/../../../../secret/manifests/v1',
      '/v2/team/app/blobs/uploads/%2e%2e/%2e%2e/%2e%2e/%2e%2e/secret/manifests/v1',
      '/v2/team/app/blobs/uploads/..%2f..%2f..%2f..%2fsecret/manifests/v1',
      '/v2/team/app/manifests/v1',
      '//v2/secret/manifests/v1',
      '/V2/secret/manifests/v1',
      '/v2/team/app/blobs/uploads/x/manifests/v1',
      '/v2/team/app/blobs/uploads/%252e%252e',
      '/v2/team/app/blobs/uploads/%ff',
      '/v2/team/app/blobs/uploads/',
    ];
    for (const [name, registry] of [
      ['team/app', select(upstream, (repository) => repository === 'team/app')],
      ['app', subPath(upstream, 'team')],
    ] as const) {
      for (const path of forged) {
        const id = `http://${upstream.host}${path}`;
        await expect(registry.resumeBlob(name, id, undefined)).rejects.toMatchObject({ code: 'BLOB_UPLOAD_UNKNOWN' });
        const host = await serve(registry);
        const bytes = Buffer.from('{"schemaVersion":2,"mediaType":"x/y"}');
        const upload = `/v2/${name}/blobs/uploads/${Buffer.from(id).toString('base64url')}?digest=${digestOf(bytes)}`;
        const answer = await request(`http://${host}${upload}`, { method: 'PUT', body: bytes });
        await answer.body.dump();
        expect(answer.statusCode).toBe(404);
      }
    }
    expect(await store.getTag('secret', 'v1')).toEqual(before);
  });
});
