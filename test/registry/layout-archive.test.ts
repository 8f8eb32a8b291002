import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { Readable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { digestHex } from '../../src/oci/digest.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { LayoutArchive } from '../../src/registry/layout-archive.ts';
import { LayoutRegistry } from '../../src/registry/layout-registry.ts';
import {
  content,
  digestOf,
  listAll,
  manifestOf,
  push,
  pushImage,
  readAll,
  streamOf,
} from '../support/registry-content.ts';
import { tempDir } from '../support/tmp.ts';

/** An archive with an image called `v1`. */
async function made(file: string) {
  const archive = await LayoutArchive.create(file);
  const image = await pushImage(archive, '', 'v1');
  await archive.close();
  return image;
}

/** A layout with an image called `v1`, packed by GNU tar; `change` may damage it before. */
async function packed(
  dir: string,
  flags: readonly string[],
  change: (layout: string, blob: string) => void = () => {},
) {
  const layout = path.join(dir, 'layout');
  const image = await pushImage(new LayoutRegistry(layout), '', 'v1');
  change(layout, path.join(layout, 'blobs/sha256', digestHex(image.layer.descriptor.digest)));
  const file = path.join(dir, 'packed.tar');
  execFileSync('tar', ['-C', layout, '-cf', file, ...flags, '.']);
  return { ...image, file };
}

describe('LayoutArchive', () => {
  it('reads what it wrote, in whole and in part', async () => {
    const file = path.join(tempDir(), 'a.tar');
    const { manifest, layer, config } = await made(file);
    const archive = await LayoutArchive.open(file);
    expect(await archive.resolveDefault()).toEqual(manifest.descriptor);
    expect(await archive.getTag('', 'v1')).toEqual({ ...manifest });
    expect(await archive.resolveBlob('', layer.descriptor.digest)).toMatchObject({ size: layer.bytes.byteLength });
    expect(await readAll(await archive.getBlob('', layer.descriptor.digest))).toEqual(layer.bytes);
    expect(await readAll(await archive.getBlobRange('', layer.descriptor.digest, 100, 900))).toEqual(
      layer.bytes.subarray(100, 900),
    );
    expect(await readAll(await archive.getBlobRange('', layer.descriptor.digest, 1_990, 9_999))).toEqual(
      layer.bytes.subarray(1_990),
    );
    await expect(archive.getBlobRange('', config.descriptor.digest, 10_000, undefined)).rejects.toMatchObject({
      code: 'RANGE_INVALID',
    });
    expect(await listAll(archive.tags(''))).toEqual(['v1']);
    await expect(archive.getBlob('', digestOf(Buffer.from('no')))).rejects.toMatchObject({ code: 'BLOB_UNKNOWN' });
    await expect(archive.getTag('', 'v2')).rejects.toMatchObject({ code: 'MANIFEST_UNKNOWN' });
    await expect(push(archive, '', content(10))).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    await expect(archive.deleteTag('', 'v1')).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });

  it('keeps blobs without bytes, and blobs named by sha512', async () => {
    const file = path.join(tempDir(), 'a.tar');
    const archive = await LayoutArchive.create(file);
    const empty = content('');
    const long = content(1_000);
    const digest = digestOf(long.bytes, 'sha512');
    await push(archive, '', empty);
    await archive.pushBlob('', { ...long.descriptor, digest }, () => streamOf(long.bytes));
    await archive.close();
    const read = await LayoutArchive.open(file);
    expect(await readAll(await read.getBlob('', empty.descriptor.digest))).toEqual(empty.bytes);
    expect(await readAll(await read.getBlob('', digest))).toEqual(long.bytes);
  });

  it('makes the same bytes of the same content', async () => {
    const dir = tempDir();
    const [config, layer] = [content('{}', mediaTypes.imageConfig), content(5_000, mediaTypes.layer)];
    const manifest = manifestOf(config.descriptor, [layer.descriptor]);
    for (const name of ['a.tar', 'b.tar']) {
      const archive = await LayoutArchive.create(path.join(dir, name));
      await Promise.all([push(archive, '', config), push(archive, '', layer), push(archive, '', config)]);
      await archive.pushManifest('', 'x', manifest.bytes, manifest.descriptor.mediaType);
      await archive.close();
    }
    expect(readFileSync(path.join(dir, 'a.tar'))).toEqual(readFileSync(path.join(dir, 'b.tar')));
  });

  it('cuts off a push that fails and goes on', async () => {
    const dir = tempDir();
    const file = path.join(dir, 'a.tar');
    const archive = await LayoutArchive.create(file);
    const good = content(200_000);
    const failing = (bytes: Uint8Array) =>
      Readable.from(
        (async function* () {
          yield bytes;
          throw new Error('the source broke');
        })(),
      );
    const wrong = archive.pushBlob('', good.descriptor, () => streamOf(content(200_000).bytes));
    const long = archive.pushBlob('', good.descriptor, () => streamOf(content(300_000).bytes));
    const broken = archive.pushBlob('', good.descriptor, () => failing(good.bytes.subarray(0, 70_000)));
    const right = push(archive, '', good);
    await expect(wrong).rejects.toMatchObject({ code: 'DIGEST_INVALID' });
    await expect(long).rejects.toMatchObject({ code: 'SIZE_INVALID' });
    await expect(broken).rejects.toThrow('the source broke');
    await right;
    expect((await readAll(await archive.getBlob('', good.descriptor.digest))).equals(good.bytes)).toBe(true);
    await archive.close();
    expect((await readAll(await archive.getBlob('', good.descriptor.digest))).equals(good.bytes)).toBe(true);
    expect(execFileSync('tar', ['-tf', file], { encoding: 'utf8' }).split('\n').filter(Boolean)).toEqual([
      `blobs/sha256/${digestHex(good.descriptor.digest)}`,
      'index.json',
      'oci-layout',
    ]);
    expect(readFileSync(file).byteLength).toBeLessThan(210_000);
  });

  it('is no file until it is closed, and leaves nothing when it is given up', async () => {
    const dir = tempDir();
    const file = path.join(dir, 'a.tar');
    const archive = await LayoutArchive.create(file);
    await pushImage(archive, '', 'v1');
    expect(existsSync(file)).toBe(false);
    await archive.discard();
    await archive.discard();
    expect(readdirSync(dir)).toEqual([]);
    await expect(push(archive, '', content(10))).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    await expect(archive.close()).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });

  it('replaces a file only when asked to', async () => {
    const file = path.join(tempDir(), 'a.tar');
    const late = await LayoutArchive.create(file);
    writeFileSync(file, 'precious');
    await expect(LayoutArchive.create(file)).rejects.toMatchObject({ code: 'DENIED' });
    await expect(late.close()).rejects.toMatchObject({ code: 'DENIED' });
    expect(readFileSync(file, 'utf8')).toBe('precious');
    const archive = await LayoutArchive.create(file, { replace: true });
    const { manifest } = await pushImage(archive, '', 'v1');
    await archive.close();
    await archive.discard();
    expect(await (await LayoutArchive.open(file)).resolveTag('', 'v1')).toEqual(manifest.descriptor);
    expect(readdirSync(path.dirname(file))).toEqual(['a.tar']);
  });

  it('reads a layout that GNU tar packed, the last of two members with one name', async () => {
    const { file, manifest, layer } = await packed(tempDir(), ['--format=gnu']);
    execFileSync('tar', ['-C', path.join(path.dirname(file), 'layout'), '-rf', file, './index.json', './oci-layout']);
    const archive = await LayoutArchive.open(file);
    expect(await archive.resolveTag('', 'v1')).toEqual(manifest.descriptor);
    expect(await readAll(await archive.getBlob('', layer.descriptor.digest))).toEqual(layer.bytes);
  });

  it('never passes on a blob that is not what its name says', async () => {
    const { file, layer } = await packed(tempDir(), [], (_layout, blob) => {
      const bytes = readFileSync(blob);
      bytes[700] = (bytes[700] ?? 0) ^ 1;
      writeFileSync(blob, bytes);
    });
    const archive = await LayoutArchive.open(file);
    await expect(readAll(await archive.getBlob('', layer.descriptor.digest))).rejects.toMatchObject({
      code: 'DIGEST_INVALID',
    });
  });

  it('refuses a file that changed since it was opened', async () => {
    const file = path.join(tempDir(), 'a.tar');
    const { layer } = await made(file);
    const archive = await LayoutArchive.open(file);
    utimesSync(file, 1, 1);
    await expect(archive.getBlobRange('', layer.descriptor.digest, 0, 5)).rejects.toThrow(
      /changed while it was in use/,
    );
  });

  it.each([
    ['gzip', gzipSync(Buffer.alloc(1_000)), 'UNSUPPORTED', /compressed with gzip/],
    ['zstd', Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, 0]), 'UNSUPPORTED', /compressed with zstd/],
    ['text', Buffer.from('hello '.repeat(200)), 'NAME_UNKNOWN', /not a tar archive/],
    ['nothing', Buffer.alloc(0), 'NAME_UNKNOWN', /no index\.json/],
    ['zeros', Buffer.alloc(10_240), 'NAME_UNKNOWN', /no index\.json/],
  ])('refuses %s with a word about it', async (_name, bytes, code, message) => {
    const file = path.join(tempDir(), 'f.tar');
    writeFileSync(file, bytes);
    await expect(LayoutArchive.open(file)).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
  });

  it('refuses what is no file, and a file that is not there', async () => {
    const dir = tempDir();
    execFileSync('mkfifo', [path.join(dir, 'pipe')]);
    for (const name of ['.', 'pipe', 'none', 'pipe/none'])
      await expect(LayoutArchive.open(path.join(dir, name))).rejects.toMatchObject({ code: 'NAME_UNKNOWN' });
  });

  it('refuses links in the place of blobs', async () => {
    const link = (layout: string, blob: string) => {
      execFileSync('mv', [blob, path.join(layout, 'elsewhere')]);
      symlinkSync('../../elsewhere', blob);
    };
    await expect(LayoutArchive.open((await packed(tempDir(), [], link)).file)).rejects.toThrow(/is a symlink/);
    const hard = (layout: string, blob: string) => {
      mkdirSync(path.join(layout, 'a'));
      execFileSync('ln', [blob, path.join(layout, 'a', 'first')]);
    };
    await expect(LayoutArchive.open((await packed(tempDir(), ['--sort=name'], hard)).file)).rejects.toThrow(
      /is a hardlink/,
    );
    const holes = (_layout: string, blob: string) => truncateSync(blob, 4_000_000);
    await expect(LayoutArchive.open((await packed(tempDir(), ['-S'], holes)).file)).rejects.toThrow(/is a sparse file/);
  });

  it('refuses an archive that is cut off, wherever', async () => {
    const file = path.join(tempDir(), 'a.tar');
    await made(file);
    const bytes = readFileSync(file);
    const cut = `${file}.cut`;
    for (let length = bytes.byteLength - 1_540; length > 0; length -= 300) {
      writeFileSync(cut, bytes.subarray(0, length));
      await expect(LayoutArchive.open(cut)).rejects.toMatchObject({
        code: expect.stringMatching(/^(UNKNOWN|NAME_UNKNOWN)$/) as string,
      });
    }
  });

  it('refuses an index.json that is damaged or huge', async () => {
    const damage = (layout: string) => writeFileSync(path.join(layout, 'index.json'), '{"schemaVersion":2,');
    const damaged = await LayoutArchive.open((await packed(tempDir(), [], damage)).file);
    await expect(damaged.resolveTag('', 'v1')).rejects.toMatchObject({ code: 'UNKNOWN' });
    const grow = (layout: string) => writeFileSync(path.join(layout, 'index.json'), Buffer.alloc(5 * 1024 * 1024));
    await expect(LayoutArchive.open((await packed(tempDir(), [], grow)).file)).rejects.toMatchObject({
      code: 'TOO_LARGE',
    });
  });
});

describe('an index pushed to a layout', () => {
  it('takes the place of its manifests that are listed without a name', async () => {
    const registry = new LayoutRegistry(path.join(tempDir(), 'l'));
    const child = await pushImage(registry, '', undefined);
    const other = await pushImage(registry, '', undefined);
    const manifests = [child.manifest.descriptor, other.manifest.descriptor];
    const index = content(
      JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes.imageIndex, manifests }),
      mediaTypes.imageIndex,
    );
    await registry.pushManifest('', undefined, index.bytes, mediaTypes.imageIndex);
    expect(await registry.resolveDefault()).toEqual(index.descriptor);
    await registry.pushManifest('', 'all', index.bytes, mediaTypes.imageIndex);
    expect(await registry.resolveDefault()).toEqual(index.descriptor);
  });
});
