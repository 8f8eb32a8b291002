// What every implementation of Registry must do, whatever lies behind it.
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { mediaTypes } from '../../src/oci/media-type.ts';
import type { RegistryErrorCode } from '../../src/registry/errors.ts';
import type { Registry } from '../../src/registry/registry.ts';
import {
  content,
  digestOf,
  failingStream,
  listAll,
  manifestOf,
  push,
  pushImage,
  readAll,
  streamOf,
} from '../support/registry-content.ts';
import { refusesBadNames, withCode } from './registry-names.ts';

export interface RegistryTraits {
  /** Some registries delete a tag only together with its manifest. */
  readonly deletesTags?: boolean;
  /** Whether blobs pushed under sha512 are kept. */
  readonly sha512?: boolean;
  /** The error of mounting what is not there. */
  readonly mountOfMissing?: RegistryErrorCode;
  /** False where every name is the same repository. */
  readonly severalRepositories?: boolean;
  readonly deletesBlobs?: boolean;
  /** False where a deleted manifest is not listed any more, and still there for whoever knows its digest. */
  readonly forgetsManifests?: boolean;
  /** Whether a manifest may name foreign layers that were not pushed. */
  readonly foreignLayers?: boolean;
  /** Whether a tag can be moved, and deleted with its manifest. */
  readonly movesTags?: boolean;
}

export interface RegistryUnderTest {
  readonly registry: Registry;
  close(): Promise<void>;
}

export function registryConformance(
  name: string,
  start: () => Promise<RegistryUnderTest>,
  traits: RegistryTraits = {},
): void {
  const { deletesTags = true, sha512 = true, mountOfMissing = 'BLOB_UNKNOWN', foreignLayers = true } = traits;
  const { movesTags = true } = traits;
  const { severalRepositories = true, deletesBlobs = true, forgetsManifests = true } = traits;

  describe(`${name} as a registry`, () => {
    let under: RegistryUnderTest;
    let registry: Registry;
    const repo = () => `test/r${randomBytes(6).toString('hex')}`;

    beforeAll(async () => {
      under = await start();
      registry = under.registry;
    });
    afterAll(async () => await under.close());

    describe('blobs', () => {
      it.each([0, 1, 2_048, 300_000])('gives back a blob of %s bytes as it was pushed', async (size) => {
        const r = repo();
        const blob = content(size);
        expect(await push(registry, r, blob)).toMatchObject({ digest: blob.descriptor.digest, size });
        expect(await registry.resolveBlob(r, blob.descriptor.digest)).toMatchObject({
          digest: blob.descriptor.digest,
          size,
        });
        const reader = await registry.getBlob(r, blob.descriptor.digest);
        expect(reader.descriptor).toMatchObject({ digest: blob.descriptor.digest, size });
        expect(digestOf(await readAll(reader))).toBe(blob.descriptor.digest);
      });

      it.skipIf(!sha512)('keeps blobs by their sha512', async () => {
        const r = repo();
        const { bytes } = content(5_000);
        const descriptor = {
          mediaType: mediaTypes.octetStream,
          digest: digestOf(bytes, 'sha512'),
          size: bytes.byteLength,
        };
        await registry.pushBlob(r, descriptor, () => streamOf(bytes));
        expect(await readAll(await registry.getBlob(r, descriptor.digest))).toEqual(bytes);
      });

      it.each([
        [500, 1_500],
        [500, undefined],
        [0, 1],
        [2_047, undefined],
        [2_000, 5_001],
        [0, undefined],
        [0, 2_048],
      ])('reads bytes [%s, %s) of 2048', async (from, to) => {
        const r = repo();
        const blob = content(2_048);
        await push(registry, r, blob);
        const reader = await registry.getBlobRange(r, blob.descriptor.digest, from, to);
        expect(reader.descriptor).toMatchObject({ digest: blob.descriptor.digest, size: 2_048 });
        expect(await readAll(reader)).toEqual(blob.bytes.subarray(from, to));
      });

      it.each([
        [2_048, undefined],
        [5_000, 10_001],
        [500, 500],
        [500, 1],
        [-1, 5],
        [0.5, 5],
      ])('refuses the range [%s, %s) of 2048 bytes', async (from, to) => {
        const r = repo();
        const blob = content(2_048);
        await push(registry, r, blob);
        await expect(registry.getBlobRange(r, blob.descriptor.digest, from, to)).rejects.toEqual(
          withCode('RANGE_INVALID'),
        );
      });

      it('ends a transfer that is closed early, and takes the next one', async () => {
        const r = repo();
        const blob = content(3_000_000);
        await push(registry, r, blob);
        const reader = await registry.getBlob(r, blob.descriptor.digest);
        await new Promise((resolve) => void reader.body.once('readable', resolve));
        reader.close();
        reader.close();
        expect(reader.body.destroyed).toBe(true);
        expect((await registry.resolveBlob(r, blob.descriptor.digest)).size).toBe(3_000_000);
      });

      it('says that a blob is not there', async () => {
        const r = repo();
        await pushImage(registry, r, 'x');
        const { digest } = content('never pushed').descriptor;
        await expect(registry.getBlob(r, digest)).rejects.toEqual(withCode('BLOB_UNKNOWN'));
        await expect(registry.getBlobRange(r, digest, 0, 1)).rejects.toEqual(withCode('BLOB_UNKNOWN'));
        await expect(registry.resolveBlob(r, digest)).rejects.toEqual(withCode('BLOB_UNKNOWN'));
        await expect(registry.getBlob(repo(), digest)).rejects.toEqual(withCode('BLOB_UNKNOWN', 'NAME_UNKNOWN'));
      });

      it('refuses content that is not what its digest says, or not of its size', async () => {
        const r = repo();
        const blob = content(1_000);
        const other = content(1_000);
        await expect(registry.pushBlob(r, blob.descriptor, () => streamOf(other.bytes))).rejects.toEqual(
          withCode('DIGEST_INVALID'),
        );
        await expect(registry.pushBlob(r, blob.descriptor, () => streamOf(blob.bytes.subarray(1)))).rejects.toEqual(
          withCode('SIZE_INVALID', 'DIGEST_INVALID'),
        );
        const longer = Buffer.concat([blob.bytes, other.bytes]);
        await expect(registry.pushBlob(r, blob.descriptor, () => streamOf(longer))).rejects.toEqual(
          withCode('SIZE_INVALID'),
        );
        await expect(registry.resolveBlob(r, blob.descriptor.digest)).rejects.toEqual(
          withCode('BLOB_UNKNOWN', 'NAME_UNKNOWN'),
        );
      });

      it('passes on the error of the pushed stream', async () => {
        const blob = content(200_000);
        const broken = () => failingStream(blob.bytes.subarray(0, 1_000), new Error('the disk is on fire'));
        await expect(registry.pushBlob(repo(), blob.descriptor, broken)).rejects.toThrow('the disk is on fire');
      });

      it('mounts a blob of another repository', async () => {
        const [from, to] = [repo(), repo()];
        const blob = content(1_000);
        await push(registry, from, blob);
        expect(await registry.mountBlob(from, to, blob.descriptor.digest)).toMatchObject({
          digest: blob.descriptor.digest,
          size: 1_000,
        });
        expect(await readAll(await registry.getBlob(to, blob.descriptor.digest))).toEqual(blob.bytes);
        const missing = content('nowhere').descriptor.digest;
        await expect(registry.mountBlob(from, to, missing)).rejects.toEqual(withCode(mountOfMissing));
      });

      it.skipIf(!deletesBlobs)('deletes a blob from one repository and not from another', async () => {
        const [one, two] = [repo(), repo()];
        const blob = content(1_000);
        await push(registry, one, blob);
        await push(registry, two, blob);
        await registry.deleteBlob(one, blob.descriptor.digest);
        await expect(registry.resolveBlob(one, blob.descriptor.digest)).rejects.toEqual(withCode('BLOB_UNKNOWN'));
        await expect(registry.deleteBlob(one, blob.descriptor.digest)).rejects.toEqual(withCode('BLOB_UNKNOWN'));
        expect(await readAll(await registry.getBlob(two, blob.descriptor.digest))).toEqual(blob.bytes);
        await push(registry, one, blob);
        expect(await readAll(await registry.getBlob(one, blob.descriptor.digest))).toEqual(blob.bytes);
      });
    });

    describe('uploads in chunks', () => {
      it('takes a blob in chunks and resumes by id', async () => {
        const r = repo();
        const blob = content(250_000);
        const first = await registry.pushBlobChunked(r, 100_000);
        await first.write(blob.bytes.subarray(0, 120_000));
        await first.close();
        const second = await registry.resumeBlob(r, first.id, undefined);
        expect(second.size).toBe(120_000);
        await second.write(blob.bytes.subarray(120_000));
        expect(await second.commit(blob.descriptor.digest)).toMatchObject({
          digest: blob.descriptor.digest,
          size: 250_000,
        });
        await second.cancel();
        expect(digestOf(await readAll(await registry.getBlob(r, blob.descriptor.digest)))).toBe(blob.descriptor.digest);
        await expect(registry.resumeBlob(r, first.id, undefined)).rejects.toEqual(withCode('BLOB_UPLOAD_UNKNOWN'));
      });

      it('takes an empty blob', async () => {
        const r = repo();
        const blob = content(0);
        const upload = await registry.pushBlobChunked(r, undefined);
        await upload.commit(blob.descriptor.digest);
        expect((await registry.resolveBlob(r, blob.descriptor.digest)).size).toBe(0);
      });

      it('refuses to resume at another place, or what it never began', async () => {
        const r = repo();
        const upload = await registry.pushBlobChunked(r, undefined);
        await upload.write(Buffer.alloc(10));
        await upload.close();
        await expect(registry.resumeBlob(r, upload.id, 5)).rejects.toEqual(withCode('RANGE_INVALID'));
        await expect(registry.resumeBlob(r, 'f'.repeat(32), 0)).rejects.toEqual(withCode('BLOB_UPLOAD_UNKNOWN'));
        const again = await registry.resumeBlob(r, upload.id, 10);
        await again.cancel();
        await again.cancel();
        await expect(registry.resumeBlob(r, upload.id, undefined)).rejects.toEqual(withCode('BLOB_UPLOAD_UNKNOWN'));
      });

      it('refuses to commit under a wrong digest', async () => {
        const r = repo();
        const upload = await registry.pushBlobChunked(r, undefined);
        await upload.write(Buffer.from('one'));
        await expect(upload.commit(content('two').descriptor.digest)).rejects.toEqual(withCode('DIGEST_INVALID'));
        await upload.cancel();
      });
    });

    describe('manifests and tags', () => {
      it('gives back a manifest byte for byte, by digest and by tag', async () => {
        const r = repo();
        const { manifest } = await pushImage(registry, r, 'v1', { unknownField: { kept: true } });
        const { descriptor, bytes } = manifest;
        for (const got of [await registry.getManifest(r, descriptor.digest), await registry.getTag(r, 'v1')]) {
          expect(Buffer.from(got.bytes)).toEqual(bytes);
          expect(got.descriptor).toEqual(descriptor);
        }
        expect(await registry.resolveManifest(r, descriptor.digest)).toEqual(descriptor);
        expect(await registry.resolveTag(r, 'v1')).toEqual(descriptor);
      });

      it('stores a manifest without a tag', async () => {
        const r = repo();
        const { manifest } = await pushImage(registry, r, undefined);
        expect(await registry.resolveManifest(r, manifest.descriptor.digest)).toEqual(manifest.descriptor);
      });

      it('keeps docker manifests and lists, and indexes in indexes', async () => {
        const r = repo();
        const { manifest } = await pushImage(registry, r, 'docker', { mediaType: mediaTypes.dockerManifest });
        expect((await registry.resolveTag(r, 'docker')).mediaType).toBe(mediaTypes.dockerManifest);
        const platform = { os: 'linux', architecture: 'amd64' };
        const list = content(
          JSON.stringify({
            schemaVersion: 2,
            mediaType: mediaTypes.dockerManifestList,
            manifests: [{ ...manifest.descriptor, platform }],
          }),
        );
        await registry.pushManifest(r, 'list', list.bytes, mediaTypes.dockerManifestList);
        expect(await registry.resolveTag(r, 'list')).toMatchObject({
          mediaType: mediaTypes.dockerManifestList,
          digest: list.descriptor.digest,
        });
      });

      it.skipIf(!movesTags)('moves a tag', async () => {
        const r = repo();
        await pushImage(registry, r, 'latest');
        const { manifest } = await pushImage(registry, r, 'latest');
        expect((await registry.resolveTag(r, 'latest')).digest).toBe(manifest.descriptor.digest);
      });

      it('says that a manifest, a tag or a repository is not there', async () => {
        const r = repo();
        const { digest } = content('never pushed').descriptor;
        await pushImage(registry, r, 'x');
        await expect(registry.getManifest(r, digest)).rejects.toEqual(withCode('MANIFEST_UNKNOWN'));
        await expect(registry.resolveManifest(r, digest)).rejects.toEqual(withCode('MANIFEST_UNKNOWN'));
        await expect(registry.getTag(r, 'y')).rejects.toEqual(withCode('MANIFEST_UNKNOWN'));
        await expect(registry.resolveTag(r, 'y')).rejects.toEqual(withCode('MANIFEST_UNKNOWN'));
        await expect(registry.getTag(repo(), 'y')).rejects.toEqual(withCode('MANIFEST_UNKNOWN', 'NAME_UNKNOWN'));
      });

      it('refuses a manifest that is none', async () => {
        const r = repo();
        await pushImage(registry, r, 'x');
        const bytes = Buffer.from('{"schemaVersion":2,');
        await expect(registry.pushManifest(r, 'bad', bytes, mediaTypes.imageManifest)).rejects.toEqual(
          withCode('MANIFEST_INVALID'),
        );
        await expect(registry.resolveTag(r, 'bad')).rejects.toEqual(withCode('MANIFEST_UNKNOWN'));
      });

      it('refuses a manifest whose layer is not there, unless it is a foreign one', async () => {
        const r = repo();
        const config = content('{}', mediaTypes.imageConfig);
        await push(registry, r, config);
        const missing = manifestOf(config.descriptor, [content('gone', mediaTypes.layerGzip).descriptor]);
        await expect(registry.pushManifest(r, 'm', missing.bytes, mediaTypes.imageManifest)).rejects.toEqual(
          withCode('MANIFEST_BLOB_UNKNOWN'),
        );
        if (!foreignLayers) return;
        const foreign = manifestOf(config.descriptor, [
          content('elsewhere', 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip').descriptor,
        ]);
        await registry.pushManifest(r, 'f', foreign.bytes, mediaTypes.imageManifest);
      });

      it.skipIf(!severalRepositories)('lists tags in order, also from the middle', async () => {
        const r = repo();
        const tags = ['b', 'a', '1', 'Z', 'c', '_x'];
        for (const tag of tags) await pushImage(registry, r, tag);
        expect(await listAll(registry.tags(r))).toEqual([...tags].sort());
        expect(await listAll(registry.tags(r, { startAfter: 'a' }))).toEqual(['b', 'c']);
        await expect(listAll(registry.tags(repo()))).rejects.toEqual(withCode('NAME_UNKNOWN'));
      });

      it.skipIf(!severalRepositories)('lists repositories', async () => {
        const names = [repo(), `${repo()}/deeper`].sort();
        for (const name of names) await pushImage(registry, name, 'x');
        const listed = await listAll(registry.repositories());
        expect(listed).toEqual([...listed].sort());
        expect(listed.filter((name) => names.includes(name))).toEqual(names);
      });

      it.skipIf(!movesTags || !forgetsManifests)('deletes a manifest and with it its tags', async () => {
        const r = repo();
        const { manifest } = await pushImage(registry, r, 'gone');
        await pushImage(registry, r, 'stays');
        await registry.deleteManifest(r, manifest.descriptor.digest);
        await expect(registry.getManifest(r, manifest.descriptor.digest)).rejects.toEqual(withCode('MANIFEST_UNKNOWN'));
        await expect(registry.resolveTag(r, 'gone')).rejects.toEqual(withCode('MANIFEST_UNKNOWN'));
        expect(await listAll(registry.tags(r))).toEqual(['stays']);
        await expect(registry.deleteManifest(r, manifest.descriptor.digest)).rejects.toEqual(
          withCode('MANIFEST_UNKNOWN'),
        );
      });

      it.skipIf(!deletesTags)('deletes a tag and keeps its manifest', async () => {
        const r = repo();
        const { manifest } = await pushImage(registry, r, 'gone');
        await registry.deleteTag(r, 'gone');
        await expect(registry.resolveTag(r, 'gone')).rejects.toEqual(withCode('MANIFEST_UNKNOWN'));
        expect(await registry.resolveManifest(r, manifest.descriptor.digest)).toEqual(manifest.descriptor);
        await expect(registry.deleteTag(r, 'gone')).rejects.toEqual(withCode('MANIFEST_UNKNOWN'));
      });
    });

    describe('referrers', () => {
      it('lists what refers to a manifest, with its type and annotations', async () => {
        const r = repo();
        const { manifest } = await pushImage(registry, r, 'image');
        const subject = manifest.descriptor;
        expect(await listAll(registry.referrers(r, subject.digest))).toEqual([]);
        const one = await pushImage(registry, r, undefined, {
          subject,
          artifactType: 'application/one',
          annotations: { note: 'first' },
        });
        const two = await pushImage(registry, r, undefined, { subject, artifactType: 'application/two' });
        const plain = await pushImage(registry, r, undefined, { subject });
        await pushImage(registry, r, undefined, { subject: plain.manifest.descriptor });
        const all = await listAll(registry.referrers(r, subject.digest));
        expect(all.map(({ digest }) => digest).sort()).toEqual(
          [one, two, plain].map((image) => image.manifest.descriptor.digest).sort(),
        );
        expect(all.find(({ digest }) => digest === one.manifest.descriptor.digest)).toEqual({
          ...one.manifest.descriptor,
          artifactType: 'application/one',
          annotations: { note: 'first' },
        });
        expect(all.find(({ digest }) => digest === plain.manifest.descriptor.digest)?.artifactType).toBe(
          mediaTypes.imageConfig,
        );
        const filtered = await listAll(registry.referrers(r, subject.digest, { artifactType: 'application/two' }));
        expect(filtered.map(({ digest }) => digest)).toEqual([two.manifest.descriptor.digest]);
        expect(await listAll(registry.referrers(r, subject.digest, { artifactType: 'application/none' }))).toEqual([]);
      });

      it('lists a referrer once, however often it is pushed, and forgets a deleted one', async () => {
        const r = repo();
        const { manifest } = await pushImage(registry, r, 'image');
        const referrer = await pushImage(registry, r, undefined, { subject: manifest.descriptor, artifactType: 'a/b' });
        await registry.pushManifest(r, undefined, referrer.manifest.bytes, mediaTypes.imageManifest);
        expect(await listAll(registry.referrers(r, manifest.descriptor.digest))).toHaveLength(1);
        await registry.deleteManifest(r, referrer.manifest.descriptor.digest);
        expect(await listAll(registry.referrers(r, manifest.descriptor.digest))).toEqual([]);
      });

      it('lists referrers of what is not there, and none of what nobody knows', async () => {
        const r = repo();
        const subject = content('not pushed', mediaTypes.imageManifest).descriptor;
        await pushImage(registry, r, undefined, { subject });
        expect(await listAll(registry.referrers(r, subject.digest))).toHaveLength(1);
        if (!severalRepositories) return;
        expect(await listAll(registry.referrers(repo(), subject.digest))).toEqual([]);
      });
    });

    refusesBadNames(() => registry);

    it('stops for a signal that is aborted already', async () => {
      const r = repo();
      const blob = content(100);
      await push(registry, r, blob);
      const signal = AbortSignal.abort(new Error('enough'));
      await expect(registry.getBlob(r, blob.descriptor.digest, { signal })).rejects.toThrow('enough');
    });
  });
}
