// `peel copy` and archives of layouts, from dist/, with skopeo and umoci at the other end.
import { spawn } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Readable } from 'node:stream';
import { hashSync } from 'bcryptjs';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Descriptor } from '../../src/oci/descriptor.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import type { Registry } from '../../src/registry/registry.ts';
import { startDockerRegistry } from '../support/docker-registry.ts';
import { type BuiltImage, buildImage, pushImage } from '../support/image-builder.ts';
import { PeelNode } from '../support/peel-node.ts';
import { content, listAll } from '../support/registry-content.ts';
import { peelMain, runOk } from '../support/run.ts';
import { TestRegistry } from '../support/test-registry.ts';

interface Report {
  digest: string;
  destination: string;
  manifests: number;
  blobs: { copied: number; mounted: number; existing: number };
}

const node = new PeelNode();
const platforms = ['amd64', 'arm64'] as const;
let registry: TestRegistry;
let index: { readonly bytes: Buffer; readonly descriptor: Descriptor };
const images: BuiltImage[] = [];
let signature: Descriptor;

/** `app:v1`: two platforms with a layer in common, and a signature of the first. */
async function pushApp(to: Registry): Promise<void> {
  for (const image of images) await pushImage(to, 'app', undefined, image);
  await to.pushManifest('app', 'v1', index.bytes, mediaTypes.imageIndex);
  const config = content('{}', mediaTypes.emptyJson);
  await to.pushBlob('app', config.descriptor, () => Readable.from([config.bytes]));
  const subject = images[0]?.manifest.descriptor;
  const document = { schemaVersion: 2, mediaType: mediaTypes.imageManifest, artifactType: 'a/signature' };
  const manifest = JSON.stringify({ ...document, config: config.descriptor, layers: [], subject });
  signature = await to.pushManifest('app', undefined, Buffer.from(manifest), mediaTypes.imageManifest);
}

beforeAll(async () => {
  registry = await TestRegistry.start();
  const tars = ['common', ...platforms].map((name) => {
    const files = path.join(node.dir, name);
    mkdirSync(files);
    writeFileSync(path.join(files, name), `${name}\n`.repeat(20_000));
    return { files, tar: path.join(node.dir, `${name}.tar`) };
  });
  for (const { files, tar } of tars) await runOk('tar', ['--owner=0', '--group=0', '-C', files, '-cf', tar, '.']);
  const [common, ...own] = tars.map(({ tar }) => ({ tar, compression: 'gzip' as const }));
  for (const [at, architecture] of platforms.entries()) {
    const layers = [common, own[at]].filter((layer) => layer !== undefined);
    images.push(
      await buildImage(path.join(node.dir, `image-${architecture}`), layers, {
        platform: { os: 'linux', architecture },
      }),
    );
  }
  const manifests = images.map(({ manifest }, at) => ({
    ...manifest.descriptor,
    platform: { os: 'linux', architecture: platforms[at] },
  }));
  index = content(
    JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes.imageIndex, manifests }),
    mediaTypes.imageIndex,
  );
  await pushApp(registry.store);
});
afterAll(async () => {
  await registry.close();
  await node.close();
});
beforeEach(() => registry.front.forget());

describe('peel copy', () => {
  it('copies between all pairs of registries, layouts and archives, with what refers to the image', async () => {
    const dir = await node.newDir();
    // Every kind from every kind, one after the other.
    const kinds = [
      'registry',
      'registry',
      'layout',
      'layout',
      'archive',
      'archive',
      'registry',
      'archive',
      'layout',
      'registry',
    ];
    const place = {
      registry: (at: number) => `${registry.front.host}/pairs/app-${at}`,
      layout: (at: number) => `oci:${dir}/layout-${at}`,
      archive: (at: number) => `oci-archive:${dir}/${at}.tar`,
    };
    let from = `${registry.front.host}/app:v1`;
    for (const [at, kind] of kinds.entries()) {
      const to = place[kind as keyof typeof place](at);
      const report = await node.json<Report>(['copy', from, to, '--referrers']);
      expect(report).toMatchObject({ digest: index.descriptor.digest, destination: `${to}:v1`, manifests: 4 });
      from = `${to}:v1`;
    }
    const last = `pairs/app-${kinds.length - 1}`;
    expect((await registry.store.getTag(last, 'v1')).bytes).toEqual(index.bytes);
    const signed = images[0]?.manifest.descriptor.digest as Descriptor['digest'];
    expect(await listAll(registry.store.referrers(last, signed))).toMatchObject([{ digest: signature.digest }]);
  });

  it('says in one line what it did, and mounts blobs within a registry', async () => {
    const app = `${registry.front.host}/app:v1`;
    const other = `${registry.front.host}/lines/app`;
    expect(await node.ok(['copy', app, other])).toBe(
      `${other}:v1: ${index.descriptor.digest}; 0 blobs copied (0 B), 5 mounted, 0 already there\n`,
    );
    expect(registry.front.seen(/blobs\/sha256/).filter(({ method }) => method === 'GET')).toEqual([]);
    expect(await node.ok(['copy', app, `${other}:v2`])).toContain('0 mounted, 5 already there');
  });

  it('copies one platform when asked to', async () => {
    const to = `oci:${await node.newDir()}/one:arm`;
    const app = `${registry.front.host}/app:v1`;
    const report = await node.json<Report>(['copy', app, to, '--platform', 'linux/arm64', '--jobs', '1']);
    expect(report).toMatchObject({ digest: images[1]?.manifest.descriptor.digest, manifests: 1, blobs: { copied: 3 } });
    expect(await node.ok(['cat', to, '/arm64', '--platform', 'linux/arm64'])).toContain('arm64\n');
  });

  it('copies by digest without a tag', async () => {
    const app = `${registry.front.host}/app@${index.descriptor.digest}`;
    const to = `${registry.front.host}/untagged/app`;
    expect(await node.json<Report>(['copy', app, to])).toMatchObject({
      destination: to,
      digest: index.descriptor.digest,
    });
    expect(await listAll(registry.store.tags('untagged/app'))).toEqual([]);
    const layout = await node.peel(['copy', app, `oci:${await node.newDir()}`]);
    expect(layout).toMatchObject({ code: 2, err: expect.stringContaining('no tag') as string });
  });

  it('replaces an archive only when asked to', async () => {
    const file = path.join(await node.newDir(), 'a.tar');
    writeFileSync(file, 'precious');
    const args = ['copy', `${registry.front.host}/app:v1`, `oci-archive:${file}`];
    expect(await node.peel(args)).toMatchObject({ code: 1, err: `peel: ${file} exists already\n` });
    expect(readFileSync(file, 'utf8')).toBe('precious');
    await node.ok([...args, '--replace']);
    expect(readdirSync(path.dirname(file))).toEqual(['a.tar']);
    expect(await node.ok(['cat', `oci-archive:${file}`, '/amd64', '--platform', 'linux/amd64'])).toContain('amd64\n');
  });

  it('makes the same archive of the same image', async () => {
    const dir = await node.newDir();
    for (const name of ['a.tar', 'b.tar'])
      await node.ok(['copy', `${registry.front.host}/app:v1`, `oci-archive:${dir}/${name}`, '--referrers']);
    expect(readFileSync(path.join(dir, 'a.tar')).equals(readFileSync(path.join(dir, 'b.tar')))).toBe(true);
  });

  it.each([
    [['a', 'b@sha256:' + '0'.repeat(64)], /give only a tag/],
    [['a', 'b', '--password-stdin'], /one user without a password/],
    [['a', 'b', '--replace'], /--replace is for/],
    [['a', 'b', '--src-user', 'x', '--dest-user', 'y', '--password-stdin'], /one user without a password/],
    [['a', 'b', '--user', 'x'], /stdin is no terminal/],
    [['a', 'ghcr.io/b', '--user', 'x:y'], /docker\.io and ghcr\.io are two registries, say --src-user or --dest-user/],
    [['a', 'b', '--user', ':x', '--jobs', '0'], /from 1 to 64/],
  ])('refuses %s as wrong usage', async (args, message) => {
    const { code, err } = await node.peel(['copy', ...args]);
    expect([code, err]).toEqual([2, expect.stringMatching(message) as string]);
  });

  it.each(['oci-archive', 'registry'])('leaves nothing in %s when it is interrupted', async (kind) => {
    const stop = registry.front.interfere(
      ({ url, method }) => method === 'GET' && url?.includes('/app/blobs/') === true,
      (_request, response) => {
        // A head and no more.
        response.writeHead(200, { 'content-length': '100000' }).write('x');
        child.kill('SIGINT');
      },
    );
    const dir = await node.newDir();
    const target = await TestRegistry.start();
    const to = kind === 'registry' ? `${target.front.host}/app` : `oci-archive:${dir}/a.tar`;
    const child = spawn(process.execPath, [peelMain, 'copy', `${registry.front.host}/app:v1`, to], {
      env: { ...process.env, ...node.env },
      stdio: 'ignore',
    });
    expect(await new Promise((resolve) => child.once('exit', resolve))).toBe(130);
    expect(readdirSync(dir)).toEqual([]);
    const tags = await listAll(target.store.tags('app')).catch(() => []);
    expect(tags).toEqual([]);
    stop();
    await target.close();
  });
});

describe('an archive', () => {
  it('is read by skopeo and, unpacked, by umoci', async () => {
    const dir = await node.newDir();
    const file = path.join(dir, 'ours.tar');
    await node.ok(['copy', `${registry.front.host}/app:v1`, `oci-archive:${file}`, '--platform', 'linux/amd64']);
    const skopeo = ['--insecure-policy', 'copy', '--quiet'];
    await runOk('skopeo', [...skopeo, `oci-archive:${file}:v1`, `oci:${dir}/skopeo:v1`]);
    const digest = images[0]?.manifest.descriptor.digest as string;
    const copied = JSON.parse(readFileSync(path.join(dir, 'skopeo', 'index.json'), 'utf8')) as {
      manifests: Descriptor[];
    };
    expect(copied.manifests).toMatchObject([{ digest }]);
    const all = path.join(dir, 'all.tar');
    await node.ok(['copy', `${registry.front.host}/app:v1`, `oci-archive:${all}`]);
    await runOk('skopeo', [...skopeo, '--all', `oci-archive:${all}`, `oci:${dir}/skopeo-all:v1`]);
    mkdirSync(path.join(dir, 'layout'));
    await runOk('tar', ['-C', path.join(dir, 'layout'), '-xf', file]);
    expect(await runOk('umoci', ['list', '--layout', path.join(dir, 'layout')])).toBe('v1\n');
    await runOk('umoci', ['unpack', '--rootless', '--image', `${dir}/layout:v1`, path.join(dir, 'bundle')]);
    expect(readFileSync(path.join(dir, 'bundle/rootfs/amd64'), 'utf8')).toBe('amd64\n'.repeat(20_000));
  });

  it('of skopeo is read by every command, mounted and copied on', async () => {
    const dir = await node.newDir();
    const file = path.join(dir, 'theirs.tar');
    const from = `docker://${registry.front.host}/app:v1`;
    await runOk('skopeo', [
      '--insecure-policy',
      'copy',
      '--quiet',
      '--all',
      '--src-tls-verify=false',
      from,
      `oci-archive:${file}:v1`,
    ]);
    const image = `oci-archive:${file}`;
    const amd64 = ['--platform', 'linux/amd64'];
    expect(await node.ok(['ls', image, '/', ...amd64])).toBe('amd64\ncommon\n');
    await node.ok(['cp', `${image}:v1:/common`, path.join(dir, 'out'), ...amd64]);
    expect(readFileSync(path.join(dir, 'out'), 'utf8')).toBe('common\n'.repeat(20_000));
    expect(await node.json(['inspect', image, ...amd64])).toMatchObject({
      digest: images[0]?.manifest.descriptor.digest,
    });
    expect(await node.json(['copy', image, `${registry.front.host}/from-skopeo`])).toMatchObject({
      digest: index.descriptor.digest,
      destination: `${registry.front.host}/from-skopeo:v1`,
    });
    const pushed = await node.peel(['index', 'create', image, '--push', '--min-layer-size', '0', ...amd64]);
    expect(pushed).toMatchObject({ code: 1, err: expect.stringContaining('is only read') as string });
  });

  it.each([
    ['none.tar', undefined, /not found/],
    ['text.tar', 'hello\n'.repeat(200), /not a tar archive/],
  ])('%s that cannot be one is refused with a word about it', async (name, text, message) => {
    const file = path.join(await node.newDir(), name);
    if (text !== undefined) writeFileSync(file, text);
    const { code, err } = await node.peel(['ls', `oci-archive:${file}`]);
    expect([code, err]).toEqual([1, expect.stringMatching(message) as string]);
  });
});

describe('--user', () => {
  it('names who asks the registry, at one end of a copy or at both', async () => {
    const locked = await startDockerRegistry({ htpasswd: `ann:${hashSync('se:cret', 4)}\n` });
    try {
      const app = `${registry.front.host}/app:v1`;
      const to = `${locked.host}/app`;
      expect(await node.peel(['copy', app, to])).toMatchObject({ code: 1 });
      await node.ok(['copy', app, to, '--dest-user', 'ann:se:cret']);
      await node.ok(['copy', `${to}:v1`, `${to}:v2`, '--user', 'ann', '--password-stdin'], { input: 'se:cret\n' });
      const archive = `oci-archive:${await node.newDir()}/a.tar`;
      await node.ok(['copy', `${to}:v2`, archive, '--src-user', 'ann', '--password-stdin'], { input: 'se:cret' });
      const image = [`${to}:v2`, '--platform', 'linux/amd64'];
      expect(await node.ok(['ls', ...image, '--user', 'ann:se:cret'])).toBe('amd64\ncommon\n');
      const denied = await node.peel(['ls', ...image, '--user', 'ann:wrong', '--pull', 'always', '--json']);
      expect(denied).toMatchObject({ code: 1 });
      expect(denied.err).not.toContain('wrong');
    } finally {
      await locked.close();
    }
  });
});
