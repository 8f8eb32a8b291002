// A layout and an archive behind a server: what their messages tell.
import { rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { request } from 'undici';
import { describe, expect, it, onTestFinished } from 'vitest';
import {
  DirRegistry,
  LayoutArchive,
  LayoutRegistry,
  RemoteRegistry,
  serveRegistry,
} from '../../src/registry/registry.ts';
import type { Registry } from '../../src/registry/registry.ts';
import { content, manifestOf, push, pushImage } from '../support/registry-content.ts';
import { tempDir } from '../support/tmp.ts';

const type = 'application/vnd.oci.image.manifest.v1+json';

async function serve(
  registry: Registry,
): Promise<{ readonly url: string; readonly host: string; readonly failures: unknown[] }> {
  const failures: unknown[] = [];
  const server = await serveRegistry(registry, { onError: (error) => failures.push(error) });
  onTestFinished(() => server.close());
  return { url: server.url, host: server.host, failures };
}

async function archiveIn(dir: string): Promise<LayoutArchive> {
  const made = await LayoutArchive.create(path.join(dir, 'a.tar'));
  await pushImage(made, '', 'v1');
  await made.close();
  return await LayoutArchive.open(made.file);
}

describe('over HTTP no message names a file', () => {
  it.each<[string, (dir: string) => Registry | Promise<Registry>]>([
    ['an empty LayoutRegistry', (dir) => new LayoutRegistry(dir)],
    [
      'a LayoutRegistry',
      async (dir) => {
        const registry = new LayoutRegistry(dir);
        await pushImage(registry, 'a', 'v1');
        return registry;
      },
    ],
    [
      'a LayoutRegistry with a damaged index',
      async (dir) => {
        await pushImage(new LayoutRegistry(dir), 'a', 'v1');
        writeFileSync(path.join(dir, 'index.json'), '<html>');
        return new LayoutRegistry(dir);
      },
    ],
    ['a LayoutArchive', archiveIn],
    ['a DirRegistry', (dir) => new DirRegistry(dir)],
  ])('%s', async (_name, make) => {
    const dir = tempDir();
    const { url } = await serve(await make(dir));
    const { digest } = content('nowhere').descriptor;
    const manifest = manifestOf(content('missing').descriptor, []);
    const asked: readonly [string, string, Buffer?][] = [
      ['GET', 'tags/list'],
      ['GET', 'manifests/none'],
      ['GET', `manifests/${digest}`],
      ['GET', `blobs/${digest}`],
      ['GET', `referrers/${digest}`],
      ['DELETE', 'manifests/none'],
      ['DELETE', `manifests/${digest}`],
      ['DELETE', `blobs/${digest}`],
      ['PUT', 'manifests/v2', manifest.bytes],
      ['POST', 'blobs/uploads/'],
      ['GET', `blobs/uploads/${'0'.repeat(32)}`],
      ['PATCH', `blobs/uploads/${'0'.repeat(32)}`, Buffer.from('x')],
      ['PUT', `blobs/uploads/${'0'.repeat(32)}?digest=${digest}`],
    ];
    const told: string[] = [];
    for (const [method, what, body] of asked) {
      const answer = await request(`${url}/v2/some/app/${what}`, {
        method: method as 'GET',
        headers: body === undefined ? {} : { 'content-type': type },
        ...(body === undefined ? {} : { body }),
      });
      told.push(`${method} ${what} ${answer.statusCode} ${await answer.body.text()}`);
    }
    expect(told.filter((text) => text.includes(dir) || text.includes('/tmp/'))).toEqual([]);
    // What nobody knew was looked for in the repository that was named.
    expect(told.find((text) => text.startsWith(`GET blobs/`))).toContain(`blob ${digest} of some/app not found`);
  });

  it('and a damaged index.json is no fault of the client', async () => {
    const dir = tempDir();
    for (const registry of [new DirRegistry(path.join(dir, 'd')), new LayoutRegistry(path.join(dir, 'l'))]) {
      const { host, failures } = await serve(registry);
      const client = new RemoteRegistry({ host });
      onTestFinished(() => client.close());
      const config = content('{}');
      await push(client, 'a', config);
      const manifest = manifestOf(config.descriptor, []);
      await client.pushManifest('a', 'v1', manifest.bytes, type);
      const root = path.join(dir, registry instanceof DirRegistry ? 'd' : 'l');
      writeFileSync(path.join(root, 'index.json'), '<html>');
      await expect(client.pushManifest('a', 'v2', manifest.bytes, type)).rejects.toMatchObject({ status: 500 });
      expect(failures.at(-1)).toMatchObject({ code: 'UNKNOWN', message: expect.stringContaining(root) });
      rmSync(path.join(root, 'index.json'));
    }
  });
});
