// skopeo, umoci and containerd with the built server: what they push and pull is the same to the byte.
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { hashSync } from 'bcryptjs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Descriptor } from '../../src/oci/descriptor.ts';
import { digestHex, parseDigest } from '../../src/oci/digest.ts';
import { parseImageIndex, parseManifest } from '../../src/oci/manifest.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import type { Registry, RegistryServer } from '../../src/registry/registry.ts';
import { built } from '../support/built-registry.ts';
import { TestAuthority } from '../support/certificates.ts';
import { Containerd } from '../support/containerd.ts';
import { makeFixture } from '../support/fixtures.ts';
import { buildImage, pushImage } from '../support/image-builder.ts';
import type { BuiltImage } from '../support/image-builder.ts';
import { digestOf } from '../support/registry-content.ts';
import { runOk } from '../support/run.ts';
import { layersOf } from '../support/test-registry.ts';
import { keptTempDir } from '../support/tmp.ts';

const user = 'ann:secret';

interface Access {
  readonly server: RegistryServer;
  readonly store: Registry;
  /** Flags for the registry as the source or the destination of skopeo. */
  readonly skopeo: (side: 'src-' | 'dest-' | '') => string[];
  readonly ctr: readonly string[];
  /** The host in containerd's references. */
  readonly ctrHost: string;
}

describe('with clients by other people', () => {
  const work = keptTempDir('peel-clients-');
  const source = path.join(work.path, 'source');
  let images: readonly BuiltImage[];
  let index: Descriptor;
  let containerd: Containerd;
  const accesses = new Map<string, Access>();
  const access = (name: string): Access => accesses.get(name) as Access;

  beforeAll(async () => {
    const tars = await makeFixture('bulk', path.join(work.path, 'tars'), '2');
    const platforms = [
      { os: 'linux', architecture: 'amd64' },
      { os: 'linux', architecture: 'arm64' },
    ];
    images = await Promise.all(
      platforms.map((platform) =>
        buildImage(path.join(work.path, platform.architecture), layersOf(tars, 'gzip'), { platform }),
      ),
    );
    index = await writeSource(source, images, platforms);
    const uncompressed = await buildImage(path.join(work.path, 'uncompressed'), layersOf(tars, 'none'));
    await pushImage(new built.LayoutRegistry(source), '', 'uncompressed', uncompressed);
    accesses.set('plain HTTP', await plain(path.join(work.path, 'plain')));
    accesses.set('TLS and a password', await secured(path.join(work.path, 'secured')));
    containerd = await Containerd.start();
  });
  afterAll(async () => {
    expect(await containerd.close()).toEqual([]);
    for (const { server } of accesses.values()) await server.close();
    work[Symbol.dispose]();
  });

  describe.each(['plain HTTP', 'TLS and a password'])('over %s', (over) => {
    it('skopeo copies an index of two platforms there and back', async () => {
      const { server, skopeo } = access(over);
      const target = `docker://${server.host}/skopeo/index:v1`;
      await copy('--all', ...skopeo('dest-'), `oci:${source}:index`, target);
      const back = path.join(work.path, `back-${over.length}`);
      await copy('--all', ...skopeo('src-'), target, `oci:${back}:index`);
      const wanted = new Set([index.digest, ...images.flatMap(digestsOf)]);
      expect(blobsOf(back)).toEqual([...wanted].map(hexOf).toSorted());
      expect(digestOf(await skopeoOut('inspect', '--raw', ...skopeo(''), target))).toBe(index.digest);
    });

    it('containerd pulls and pushes an index of two platforms', async () => {
      const { store, ctr, ctrHost } = access(over);
      await copyToStore(store, 'containerd/index', images, readBlob(source, index), index.mediaType);
      const reference = `${ctrHost}/containerd/index:v1`;
      const pushed = `${ctrHost}/containerd/pushed:v1`;
      await containerd.ctr('image', 'pull', '--all-platforms', '--snapshotter', 'native', ...ctr, reference);
      for (const digest of [index.digest, ...images.flatMap(digestsOf)])
        expect(digestOf(await containerd.content(digest))).toBe(digest);
      await containerd.ctr('image', 'tag', reference, pushed);
      await containerd.ctr('image', 'push', ...ctr, pushed);
      expect((await store.resolveTag('containerd/pushed', 'v1')).digest).toBe(index.digest);
      for (const digest of images.flatMap(({ layers, config }) =>
        [config, ...layers].map((part) => part.descriptor.digest),
      ))
        expect((await store.resolveBlob('containerd/pushed', digest)).digest).toBe(digest);
    });
  });

  it('skopeo pushes an image of docker, and lists, inspects and deletes it', async () => {
    const { server, store, skopeo } = access('plain HTTP');
    const target = `docker://${server.host}/skopeo/docker`;
    await copy('--format', 'v2s2', ...skopeo('dest-'), `oci:${source}:amd64`, `${target}:v1`);
    const { bytes, descriptor } = await store.getTag('skopeo/docker', 'v1');
    expect(descriptor.mediaType).toBe(mediaTypes.dockerManifest);
    const { layers } = parseManifest(bytes, descriptor.mediaType);
    expect(layers.map(({ mediaType }) => mediaType)).toEqual(layers.map(() => mediaTypes.dockerLayerGzip));
    expect(JSON.parse(String(await skopeoOut('list-tags', ...skopeo(''), target)))).toMatchObject({ Tags: ['v1'] });
    const seen = JSON.parse(String(await skopeoOut('inspect', ...skopeo(''), `${target}:v1`))) as object;
    expect(seen).toMatchObject({ Digest: descriptor.digest, Architecture: 'amd64', RepoTags: ['v1'] });
    await skopeoOut('delete', ...skopeo(''), `${target}:v1`);
    await expect(store.resolveTag('skopeo/docker', 'v1')).rejects.toMatchObject({ code: 'MANIFEST_UNKNOWN' });
  });

  it('skopeo pushes layers compressed with zstd, and containerd unpacks them', async () => {
    const { server, store, skopeo, ctr } = access('plain HTTP');
    const reference = `${server.host}/skopeo/zstd:v1`;
    const compress = ['--dest-compress', '--dest-compress-format', 'zstd'];
    await copy(...compress, ...skopeo('dest-'), `oci:${source}:uncompressed`, `docker://${reference}`);
    const { bytes, descriptor } = await store.getTag('skopeo/zstd', 'v1');
    const { layers } = parseManifest(bytes, descriptor.mediaType);
    expect(layers.map(({ mediaType }) => mediaType)).toEqual(layers.map(() => mediaTypes.layerZstd));
    await containerd.ctr('image', 'pull', '--platform', 'linux/amd64', '--snapshotter', 'native', ...ctr, reference);
    for (const { digest } of layers) expect(digestOf(await containerd.content(digest))).toBe(digest);
  });

  it('umoci unpacks what skopeo pulled', async () => {
    const { server, store, skopeo } = access('plain HTTP');
    const [image] = images;
    if (image === undefined) throw new Error('no image');
    await pushImage(store, 'umoci/image', 'v1', image);
    const layout = path.join(work.path, 'umoci');
    await copy(...skopeo('src-'), `docker://${server.host}/umoci/image:v1`, `oci:${layout}:v1`);
    const rootfs = path.join(work.path, 'rootfs');
    await runOk('umoci', ['raw', 'unpack', '--image', `${layout}:v1`, rootfs]);
    const members = (await runOk('tar', ['-tf', image.layers[0]?.source.tar ?? ''])).trim().split('\n');
    const file = members.find((name) => !name.endsWith('/')) ?? '';
    const inTar = await runOk('sh', ['-c', `tar -xOf ${image.layers[0]?.source.tar} ${file} | sha256sum`]);
    expect(`sha256:${inTar.slice(0, 64)}`).toBe(digestOf(readFileSync(path.join(rootfs, file))));
  });
});

async function plain(dir: string): Promise<Access> {
  const store = new built.DirRegistry(dir);
  const server = await built.serveRegistry(store);
  return {
    server,
    store,
    skopeo: (side) => [`--${side}tls-verify=false`],
    ctr: ['--plain-http'],
    ctrHost: server.host,
  };
}

async function secured(dir: string): Promise<Access> {
  mkdirSync(dir);
  const authority = new TestAuthority(dir);
  const { certFile, keyFile } = authority.issue('server');
  const certs = path.join(dir, 'certs');
  mkdirSync(certs);
  writeFileSync(path.join(certs, 'ca.crt'), readFileSync(authority.caFile));
  const htpasswd = path.join(dir, 'htpasswd');
  const [name = '', password = ''] = user.split(':');
  writeFileSync(htpasswd, `${name}:${hashSync(password, 5)}\n`);
  const store = new built.DirRegistry(path.join(dir, 'store'));
  const server = await built.serveRegistry(store, { tls: { cert: certFile, key: keyFile }, htpasswd });
  // A loopback address in a reference would be asked over plain HTTP, so the registry has a name of its own.
  const ctrHost = 'registry.test';
  const hosts = path.join(dir, 'hosts');
  mkdirSync(path.join(hosts, ctrHost), { recursive: true });
  writeFileSync(
    path.join(hosts, ctrHost, 'hosts.toml'),
    `[host."${server.url}"]\nca = "${authority.caFile}"\ncapabilities = ["pull", "resolve", "push"]\n`,
  );
  return {
    server,
    store,
    skopeo: (side) => [`--${side}cert-dir`, certs, `--${side}creds`, user],
    ctr: ['--hosts-dir', hosts, '--user', user],
    ctrHost,
  };
}

/** An OCI layout with the index under `index` and the first image under `amd64`. */
async function writeSource(
  dir: string,
  images: readonly BuiltImage[],
  platforms: readonly { os: string; architecture: string }[],
): Promise<Descriptor> {
  const layout = new built.LayoutRegistry(dir);
  for (const [i, image] of images.entries()) await pushImage(layout, '', i === 0 ? 'amd64' : undefined, image);
  const manifests = images.map(({ manifest }, i) => ({ ...manifest.descriptor, platform: platforms[i] }));
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes.imageIndex, manifests }));
  parseImageIndex(bytes);
  return await layout.pushManifest('', 'index', bytes, mediaTypes.imageIndex);
}

async function copyToStore(
  store: Registry,
  repository: string,
  images: readonly BuiltImage[],
  bytes: Uint8Array,
  mediaType: string,
): Promise<void> {
  for (const image of images) await pushImage(store, repository, undefined, image);
  await store.pushManifest(repository, 'v1', bytes, mediaType);
}

/** As the file of a blob is called. */
function hexOf(digest: string): string {
  return digestHex(parseDigest(digest));
}

function digestsOf({ manifest, config, layers }: BuiltImage): string[] {
  return [manifest, config, ...layers].map(({ descriptor }) => descriptor.digest);
}

function readBlob(layout: string, { digest }: Descriptor): Buffer {
  return readFileSync(path.join(layout, 'blobs/sha256', digestHex(digest)));
}

/** Names of a layout's blobs, each of which has the content of its name. */
function blobsOf(layout: string): string[] {
  const dir = path.join(layout, 'blobs/sha256');
  const names = readdirSync(dir).toSorted();
  for (const name of names) expect(digestOf(readFileSync(path.join(dir, name)))).toBe(`sha256:${name}`);
  return names;
}

async function skopeoOut(...args: readonly string[]): Promise<Buffer> {
  return Buffer.from(await runOk('skopeo', ['--insecure-policy', ...args]));
}

async function copy(...args: readonly string[]): Promise<void> {
  await skopeoOut('copy', '--quiet', ...args);
}
