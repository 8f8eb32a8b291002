import { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { request } from 'undici';
import { expect, it, onTestFinished } from 'vitest';
import { mediaTypes } from '../../../src/oci/media-type.ts';
import { funcs, serveRegistry } from '../../../src/registry/registry.ts';
import { Deferred } from '../../../src/util/deferred.ts';
import { manifestOf, content } from '../../support/registry-content.ts';

/** A server where one manifest of unknown length counts as all the memory there is for them. */
async function serving(stored: () => Promise<void>): Promise<(body: Buffer | Readable) => Promise<number>> {
  const { descriptor } = manifestOf(content('{}').descriptor, []);
  const registry = funcs({
    pushManifest: async () => {
      await stored();
      return descriptor;
    },
  });
  const server = await serveRegistry(registry, { maxManifestBytes: 256 * 1024 * 1024 });
  onTestFinished(() => server.close());
  return async (body) => {
    const headers = { 'content-type': mediaTypes.imageManifest };
    const answer = await request(`${server.url}/v2/a/manifests/v1`, { method: 'PUT', headers, body });
    await answer.body.dump();
    return answer.statusCode;
  };
}

it('lets manifests wait that would be too many bytes in memory', async () => {
  let [active, most] = [0, 0];
  const put = await serving(async () => {
    active += 1;
    most = Math.max(most, active);
    await delay(20);
    active -= 1;
  });
  const unannounced = () => Readable.from([Buffer.from('{}')]);
  expect(await Promise.all([1, 2, 3, 4].map(() => put(unannounced())))).toEqual([201, 201, 201, 201]);
  expect(most).toBe(1);
});

it('takes small manifests at once', async () => {
  const [all, met] = [4, new Deferred<void>()];
  let active = 0;
  const put = await serving(async () => {
    active += 1;
    if (active === all) met.resolve();
    await met.promise;
  });
  expect(await Promise.all([1, 2, 3, 4].map(() => put(Buffer.from('{}'))))).toEqual([201, 201, 201, 201]);
});

it('keeps no more than the beginning of a long URL', async () => {
  const server = await serveRegistry(funcs({}));
  onTestFinished(() => server.close());
  await (await request(`${server.url}/v2/${'a'.repeat(8_000)}`)).body.dump();
  expect(server.stats.log.map(({ url }) => url.length)).toEqual([1_024]);
});
