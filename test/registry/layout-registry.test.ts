import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { digestHex } from '../../src/oci/digest.ts';
import { parseManifest } from '../../src/oci/manifest.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { DirRegistry } from '../../src/registry/dir-registry.ts';
import { LayoutRegistry } from '../../src/registry/layout-registry.ts';
import { RemoteRegistry } from '../../src/registry/remote-registry.ts';
import { serveRegistry } from '../../src/registry/serve-registry.ts';
import { content, listAll, push, pushImage, readAll, streamOf } from '../support/registry-content.ts';
import { runOk } from '../support/run.ts';
import { tempDir } from '../support/tmp.ts';

describe('LayoutRegistry', () => {
  it('makes a layout by pushing and reads it again', async () => {
    const dir = path.join(tempDir(), 'new');
    const { manifest, layer } = await pushImage(new LayoutRegistry(dir), '', 'v1');
    const registry = new LayoutRegistry(dir);
    expect(await registry.resolveTag('', 'v1')).toEqual(manifest.descriptor);
    expect(await registry.resolveDefault()).toEqual(manifest.descriptor);
    expect(await readAll(await registry.getBlob('', layer.descriptor.digest))).toEqual(layer.bytes);
    expect(await readAll(await registry.getBlobRange('', layer.descriptor.digest, 10, 20))).toEqual(
      layer.bytes.subarray(10, 20),
    );
    expect(JSON.parse(readFileSync(path.join(dir, 'oci-layout'), 'utf8'))).toEqual({ imageLayoutVersion: '1.0.0' });
    expect(readdirSync(path.join(dir, 'blobs/sha256')).filter((name) => name.endsWith('.tmp'))).toEqual([]);
  });

  it('opens no body that it has no place for', async () => {
    const dir = tempDir();
    writeFileSync(path.join(dir, 'blobs'), '');
    const { bytes, descriptor } = content(100);
    let opened = 0;
    const body = () => {
      opened += 1;
      return streamOf(bytes);
    };
    await expect(new LayoutRegistry(dir).pushBlob('', descriptor, body)).rejects.toThrow();
    expect(opened).toBe(0);
  });

  it('keeps an index of an image as a referrer without hiding the image', async () => {
    const registry = new LayoutRegistry(path.join(tempDir(), 'l'));
    const { manifest } = await pushImage(registry, '', undefined, {});
    expect(await registry.resolveDefault()).toEqual(manifest.descriptor);
    const referrer = await pushImage(registry, '', undefined, {
      subject: manifest.descriptor,
      artifactType: 'a/b',
      annotations: { n: '1' },
    });
    expect(await registry.resolveDefault()).toEqual(manifest.descriptor);
    const expected = [{ ...referrer.manifest.descriptor, artifactType: 'a/b', annotations: { n: '1' } }];
    expect(await listAll(registry.referrers('', manifest.descriptor.digest))).toEqual(expected);
    expect(await listAll(registry.referrers('', manifest.descriptor.digest, { artifactType: 'c/d' }))).toEqual([]);
    await registry.deleteManifest('', referrer.manifest.descriptor.digest);
    expect(await listAll(registry.referrers('', manifest.descriptor.digest))).toEqual([]);
  });

  it('finds referrers under the fallback tag of other tools', async () => {
    const dir = path.join(tempDir(), 'l');
    const registry = new LayoutRegistry(dir);
    const { manifest } = await pushImage(registry, '', 'image');
    const { digest } = manifest.descriptor;
    const referrer = await pushImage(registry, '', undefined, { subject: manifest.descriptor, artifactType: 'a/b' });
    await registry.deleteManifest('', referrer.manifest.descriptor.digest);
    const list = content(
      JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes.imageIndex, manifests: [referrer.manifest.descriptor] }),
      mediaTypes.imageIndex,
    );
    await registry.pushManifest('', `sha256-${digestHex(digest)}`, list.bytes, mediaTypes.imageIndex);
    expect((await listAll(registry.referrers('', digest))).map((item) => item.digest)).toEqual([
      referrer.manifest.descriptor.digest,
    ]);
    expect(await registry.resolveDefault()).toEqual(manifest.descriptor);
  });

  it('names the tags when it has several images', async () => {
    const registry = new LayoutRegistry(path.join(tempDir(), 'l'));
    await pushImage(registry, '', 'one');
    await pushImage(registry, '', 'two');
    await expect(registry.resolveDefault()).rejects.toMatchObject({
      code: 'MANIFEST_UNKNOWN',
      message: expect.stringContaining('one, two'),
    });
    const { manifest } = await pushImage(registry, '', 'latest');
    expect(await registry.resolveDefault()).toEqual(manifest.descriptor);
    expect(await listAll(registry.tags(''))).toEqual(['latest', 'one', 'two']);
    await registry.deleteTag('', 'latest');
    expect(await listAll(registry.tags('', { startAfter: 'one' }))).toEqual(['two']);
  });

  it('moves a tag and keeps what it does not know in index.json', async () => {
    const dir = tempDir();
    writeFileSync(
      path.join(dir, 'index.json'),
      JSON.stringify({ schemaVersion: 2, manifests: [], custom: { kept: true } }),
    );
    const registry = new LayoutRegistry(dir);
    await pushImage(registry, '', 'v1');
    const { manifest } = await pushImage(registry, '', 'v1');
    expect(await registry.resolveTag('', 'v1')).toEqual(manifest.descriptor);
    expect(JSON.parse(readFileSync(path.join(dir, 'index.json'), 'utf8'))).toMatchObject({
      custom: { kept: true },
      manifests: [{}],
    });
  });

  it('loses nothing when many push at once', async () => {
    const registry = new LayoutRegistry(path.join(tempDir(), 'l'));
    await Promise.all(Array.from({ length: 12 }, async (_, i) => await pushImage(registry, '', `t${i}`)));
    expect(await listAll(registry.tags(''))).toHaveLength(12);
  });

  it('loses nothing when several processes push at once', async () => {
    const dir = path.join(tempDir(), 'l');
    const face = new URL('../../dist/registry/layout-registry.js', import.meta.url).href;
    const script = `
      import { LayoutRegistry } from ${JSON.stringify(face)};
      const registry = new LayoutRegistry(${JSON.stringify(dir)});
      for (let i = 0; i < 15; i += 1) {
        const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, manifests: [], annotations: { i: process.argv[1] + i } }));
        await registry.pushManifest('', process.argv[1] + i, bytes, 'application/vnd.oci.image.index.v1+json');
      }`;
    await Promise.all(
      ['a', 'b', 'c'].map((name) => runOk(process.execPath, ['--input-type=module', '-e', script, name])),
    );
    expect(await listAll(new LayoutRegistry(dir).tags(''))).toHaveLength(45);
  });

  it('takes a blob in chunks through a server, and resumes in another process', async () => {
    const dir = path.join(tempDir(), 'l');
    const server = await serveRegistry(new LayoutRegistry(dir));
    const remote = new RemoteRegistry({ host: server.host });
    const blob = content(200_000);
    const upload = await remote.pushBlobChunked('any/name', undefined);
    await upload.write(blob.bytes.subarray(0, 90_000));
    await upload.close();
    await server.close();
    await remote.close();
    const again = await serveRegistry(new LayoutRegistry(dir));
    const other = new RemoteRegistry({ host: again.host });
    try {
      const id = upload.id.replace(server.host, again.host);
      const resumed = await other.resumeBlob('any/name', id, undefined);
      expect(resumed.size).toBe(90_000);
      await resumed.write(blob.bytes.subarray(90_000));
      await resumed.commit(blob.descriptor.digest);
      expect(await readAll(await other.getBlob('any/name', blob.descriptor.digest))).toEqual(blob.bytes);
      expect(await other.mountBlob('any/name', 'other/name', blob.descriptor.digest)).toMatchObject({ size: 200_000 });
      expect(readdirSync(path.join(dir, '.uploads'))).toEqual([]);
    } finally {
      await other.close();
      await again.close();
    }
  });

  it('makes no layout by deleting', async () => {
    const dir = path.join(tempDir(), 'l');
    await expect(new LayoutRegistry(dir).deleteTag('', 'x')).rejects.toMatchObject({ code: 'MANIFEST_UNKNOWN' });
    expect(existsSync(dir)).toBe(false);
  });

  it.each([
    ['no layout', undefined, 'NAME_UNKNOWN', 'not an oci image layout'],
    ['garbage', '<html>', 'UNKNOWN', 'not valid json'],
    [
      'a bad digest',
      JSON.stringify({ schemaVersion: 2, manifests: [{ mediaType: 'a/b', digest: 'sha256:../../x', size: 1 }] }),
      'UNKNOWN',
      'digest',
    ],
    ['an empty list', JSON.stringify({ schemaVersion: 2, manifests: [] }), 'MANIFEST_UNKNOWN', 'no image'],
  ])('says so when the directory has %s', async (_name, index, code, message) => {
    const dir = tempDir();
    if (index !== undefined) writeFileSync(path.join(dir, 'index.json'), index);
    await expect(new LayoutRegistry(dir).resolveDefault()).rejects.toMatchObject({
      code,
      message: expect.stringContaining(message),
    });
  });

  it('notices a damaged blob, and a manifest that is too large', async () => {
    const dir = path.join(tempDir(), 'l');
    const registry = new LayoutRegistry(dir);
    const { manifest, layer } = await pushImage(registry, '', 'v1');
    const file = (hex: string) => path.join(dir, 'blobs/sha256', hex);
    writeFileSync(file(digestHex(layer.descriptor.digest)), 'x'.repeat(2_000));
    await expect(registry.getBlob('', layer.descriptor.digest).then(readAll)).rejects.toMatchObject({
      code: 'DIGEST_INVALID',
    });
    writeFileSync(file(digestHex(manifest.descriptor.digest)), Buffer.alloc(5_000_000));
    await expect(registry.getTag('', 'v1')).rejects.toMatchObject({ code: 'TOO_LARGE' });
  });

  it('leaves nothing behind of a push that fails', async () => {
    const dir = path.join(tempDir(), 'l');
    const registry = new LayoutRegistry(dir);
    const blob = content(1_000);
    await expect(registry.pushBlob('', blob.descriptor, () => streamOf(content(1_000).bytes))).rejects.toMatchObject({
      code: 'DIGEST_INVALID',
    });
    await expect(registry.pushBlob('', blob.descriptor, () => streamOf(content(2_000).bytes))).rejects.toMatchObject({
      code: 'SIZE_INVALID',
    });
    expect(readdirSync(path.join(dir, 'blobs/sha256'))).toEqual([]);
  });
});

describe('other tools', () => {
  it('reads the layout that umoci makes, and umoci the one we make', async () => {
    const dir = path.join(tempDir(), 'l');
    execFileSync('umoci', ['init', '--layout', dir]);
    execFileSync('umoci', ['new', '--image', `${dir}:made`]);
    const registry = new LayoutRegistry(dir);
    const { bytes, descriptor } = await registry.getTag('', 'made');
    expect(parseManifest(bytes, descriptor.mediaType).layers).toEqual([]);
    await pushImage(registry, '', 'ours');
    expect(execFileSync('umoci', ['list', '--layout', dir], { encoding: 'utf8' }).trim().split('\n').sort()).toEqual([
      'made',
      'ours',
    ]);
  });

  it('takes from skopeo and gives to skopeo what was pushed', async () => {
    const base = tempDir();
    const source = path.join(base, 'source');
    execFileSync('umoci', ['init', '--layout', source]);
    execFileSync('umoci', ['new', '--image', `${source}:v1`]);
    const rootfs = path.join(base, 'rootfs');
    mkdirSync(rootfs);
    writeFileSync(path.join(rootfs, 'file'), 'content');
    execFileSync('umoci', ['insert', '--image', `${source}:v1`, rootfs, '/here']);
    const server = await serveRegistry(new DirRegistry(path.join(base, 'registry')));
    const remote = new RemoteRegistry({ host: server.host });
    try {
      const target = `docker://${server.host}/interop/image:v1`;
      const skopeo = async (...args: string[]) => {
        const { run } = await import('../support/run.ts');
        const result = await run('skopeo', ['--insecure-policy', ...args]);
        expect(result.err).toBe('');
        expect(result.code).toBe(0);
        return result.out;
      };
      await skopeo('copy', '--quiet', '--dest-tls-verify=false', `oci:${source}:v1`, target);
      const copied = await remote.resolveTag('interop/image', 'v1');
      expect(copied.digest).toBe((await new LayoutRegistry(source).resolveTag('', 'v1')).digest);
      const other = path.join(base, 'other');
      await skopeo('copy', '--quiet', '--src-tls-verify=false', target, `oci:${other}:back`);
      expect((await new LayoutRegistry(other).resolveDefault()).digest).toBe(copied.digest);
      expect(
        JSON.parse(await skopeo('list-tags', '--tls-verify=false', `docker://${server.host}/interop/image`)),
      ).toMatchObject({ Tags: ['v1'] });
      await skopeo(
        'copy',
        '--quiet',
        '--format',
        'v2s2',
        '--dest-tls-verify=false',
        `oci:${source}:v1`,
        `docker://${server.host}/interop/docker:v1`,
      );
      expect((await remote.resolveTag('interop/docker', 'v1')).mediaType).toBe(mediaTypes.dockerManifest);
      await skopeo('delete', '--tls-verify=false', target);
      await expect(remote.resolveTag('interop/image', 'v1')).rejects.toMatchObject({ code: 'MANIFEST_UNKNOWN' });
      expect(server.stats.requests).toBeGreaterThan(10);
    } finally {
      await remote.close();
      await server.close();
    }
  });

  it('pushes into a blob that was pushed before without sending it again', async () => {
    const server = await serveRegistry(new DirRegistry(tempDir()));
    const remote = new RemoteRegistry({ host: server.host });
    const blob = content(100_000);
    await push(remote, 'a/b', blob);
    server.stats.reset();
    await push(remote, 'a/b', blob);
    expect(server.stats.log.map(({ method }) => method)).toEqual(['HEAD']);
    await remote.close();
    await server.close();
  });
});
