import { expect } from 'vitest';
import type { Descriptor } from '../../../src/oci/descriptor.ts';
import { mediaTypes } from '../../../src/oci/media-type.ts';
import { content } from '../../support/registry-content.ts';
import { blobPath, expectDeleted, expectNotAllowed, location, manifestPath, pushBlob, putManifest } from './actions.ts';
import { dataKinds } from './data-kinds.ts';
import type { DataKind, KindContent, KindManifest } from './data-kinds.ts';
import { accepting, emptyIndex, pushEmptyIndex } from './simple-manifests.ts';
import type { Suite } from './suite.ts';
import { codeOf, json } from './wire.ts';
import type { Answer } from './wire.ts';

interface PushedKind extends KindContent {
  readonly repository: string;
  /** What each PUT was answered with: by digest, and then by each tag. */
  readonly answers: readonly { readonly manifest: KindManifest; readonly answer: Answer }[];
}

export function manifests(suite: Suite): void {
  for (const kind of dataKinds) suite.section(`Pushing and pulling ${kind.name}`, () => eachKind(suite, kind));

  suite.section('Pulling manifests', () => {
    suite.requires('what the client has already is 304 (RFC 9110, If-None-Match)', async () => {
      const repository = suite.repository();
      const { descriptor } = await pushEmptyIndex(suite, repository, 'v1');
      const headers = { 'if-none-match': `"${descriptor.digest}"` };
      for (const name of ['v1', descriptor.digest]) {
        const answer = await suite.wire.ask('GET', manifestPath(repository, name), { headers });
        expect([answer.status, answer.bytes.length]).toEqual([304, 0]);
      }
    });
    suite.requires('other methods are 405 with Allow', async () => {
      const answer = await suite.wire.ask('POST', manifestPath(suite.repository(), 'v1'));
      expectNotAllowed(answer, 'POST');
    });
  });

  suite.section('Pushing Manifests', () => {
    suite.requires('parameters of the Content-Type are ignored', async () => {
      const repository = suite.repository();
      const { bytes } = emptyIndex('parameters');
      const type = `${mediaTypes.imageIndex.toUpperCase()}; charset=utf-8`;
      expect((await putManifest(suite.wire, repository, 'v1', bytes, type)).status).toBe(201);
      const got = await suite.wire.ask('GET', manifestPath(repository, 'v1'), accepting);
      expect(got.headers['content-type']).toBe(mediaTypes.imageIndex);
    });
    for (const sentAs of [mediaTypes.imageManifest, 'application/json']) {
      suite.requires(`an index sent as ${sentAs} is 400 MANIFEST_INVALID`, async () => {
        const answer = await putManifest(suite.wire, suite.repository(), 'v1', emptyIndex('wrong').bytes, sentAs);
        expect([answer.status, codeOf(answer)]).toEqual([400, 'MANIFEST_INVALID']);
      });
    }
    suite.requires('a manifest sent as nothing is 400 MANIFEST_INVALID', async () => {
      const target = manifestPath(suite.repository(), 'v1');
      const answer = await suite.wire.ask('PUT', target, { body: emptyIndex('untyped').bytes });
      expect([answer.status, codeOf(answer)]).toEqual([400, 'MANIFEST_INVALID']);
    });
    suite.requires('a document that is both a manifest and an index is 400 MANIFEST_INVALID', async () => {
      const bytes = Buffer.from('{"schemaVersion":2,"manifests":[],"layers":[],"config":{}}');
      const answer = await putManifest(suite.wire, suite.repository(), 'v1', bytes, mediaTypes.imageIndex);
      expect([answer.status, codeOf(answer)]).toEqual([400, 'MANIFEST_INVALID']);
    });
    suite.requires('half a document is 400 MANIFEST_INVALID', async () => {
      const bytes = Buffer.from('{"schemaVersion":2,');
      const answer = await putManifest(suite.wire, suite.repository(), 'v1', bytes, mediaTypes.imageManifest);
      expect([answer.status, codeOf(answer)]).toEqual([400, 'MANIFEST_INVALID']);
    });
    suite.requires('a layer that is not there is MANIFEST_BLOB_UNKNOWN', async () => {
      const repository = suite.repository();
      const config = content('{}', mediaTypes.imageConfig);
      await pushBlob(suite.wire, repository, { bytes: config.bytes, digest: config.descriptor.digest });
      const layers = [content('gone', mediaTypes.layerGzip).descriptor];
      const document = { schemaVersion: 2, mediaType: mediaTypes.imageManifest, config: config.descriptor, layers };
      const bytes = Buffer.from(JSON.stringify(document));
      const answer = await putManifest(suite.wire, repository, 'v1', bytes, mediaTypes.imageManifest);
      expect([400, 404]).toContain(answer.status);
      expect(codeOf(answer)).toBe('MANIFEST_BLOB_UNKNOWN');
    });
    suite.requires('4 MiB are accepted, 8 MiB are 413', async () => {
      const repository = suite.repository();
      const of = (size: number) => emptyIndex('x'.repeat(size - emptyIndex('').bytes.length)).bytes;
      const put = (size: number) => putManifest(suite.wire, repository, 'big', of(size), mediaTypes.imageIndex);
      expect((await put(4 * 1024 * 1024)).status).toBe(201);
      expect((await put(8 * 1024 * 1024)).status).toBe(413);
    });
    suite.requires('a digest that the bytes do not have is 400 DIGEST_INVALID', async () => {
      const repository = suite.repository();
      const { digest } = emptyIndex('other').descriptor;
      const answer = await putManifest(suite.wire, repository, digest, emptyIndex('one').bytes, mediaTypes.imageIndex);
      expect([answer.status, codeOf(answer)]).toEqual([400, 'DIGEST_INVALID']);
      expect((await suite.wire.ask('GET', manifestPath(repository, digest))).status).toBe(404);
    });
    suite.requires('a digest that is none is 400', async () => {
      const target = 'sha256:baddigeststring';
      const { bytes } = emptyIndex('bad');
      const answer = await putManifest(suite.wire, suite.repository(), target, bytes, mediaTypes.imageIndex);
      expect(answer.status).toBe(400);
    });
    suite.requires('tags may be given with a digest, and are told in OCI-Tag', async () => {
      const repository = suite.repository();
      for (const algorithm of ['sha256', 'sha512'] as const) {
        const { bytes, digest } = emptyIndex(algorithm, algorithm);
        const tags = [`${algorithm}-a`, `${algorithm}-b`];
        const name = `${digest}?${tags.map((tag) => `tag=${tag}`).join('&')}`;
        const answer = await putManifest(suite.wire, repository, name, bytes, mediaTypes.imageIndex);
        expect([answer.status, answer.lines('oci-tag')]).toEqual([201, tags]);
        for (const tag of tags) {
          const got = await suite.wire.ask('GET', manifestPath(repository, tag), accepting);
          expect([got.status, got.headers['docker-content-digest']]).toEqual([200, digest]);
        }
      }
    });
    suite.requires('a tag that is none is refused, in the path and in the query', async () => {
      const { bytes, descriptor } = emptyIndex('tags');
      for (const name of ['.bad', `${descriptor.digest}?tag=.bad`, 'x'.repeat(129)]) {
        const answer = await putManifest(suite.wire, suite.repository(), name, bytes, mediaTypes.imageIndex);
        expect([400, 404], name).toContain(answer.status);
      }
    });
    suite.requires('a tag moves to what is pushed under it last', async () => {
      const repository = suite.repository();
      await pushEmptyIndex(suite, repository, 'latest');
      const { descriptor } = await pushEmptyIndex(suite, repository, 'latest', 'newer');
      const head = await suite.wire.ask('HEAD', manifestPath(repository, 'latest'), accepting);
      expect(head.headers['docker-content-digest']).toBe(descriptor.digest);
    });
  });
}

function eachKind(suite: Suite, kind: DataKind): void {
  let pushed: Promise<PushedKind> | undefined;
  const push = () => (pushed ??= pushKind(suite, kind.make()));
  const sample = kind.make().manifests;
  const subjects = sample.some(({ subject }) => subject !== undefined);
  const hasTags = sample.some(({ tags }) => tags.length > 0);

  suite.requires('PUT by digest and by tag is 201 with a Location that gives it', async () => {
    for (const { manifest, answer } of (await push()).answers) {
      expect(answer.status, 'status of the PUT').toBe(201);
      expect(answer.headers['docker-content-digest']).toBe(manifest.digest);
      expectSame(await suite.wire.ask('GET', location(answer), accepting), manifest);
    }
  });
  if (subjects) {
    suite.requires('PUT with a subject is answered with OCI-Subject', async () => {
      for (const { manifest, answer } of (await push()).answers)
        expect(answer.headers['oci-subject']).toBe(manifest.subject);
    });
  }
  suite.requires('HEAD and GET by digest and by tag give its bytes, type, length and digest', async () => {
    const { repository, manifests: all } = await push();
    for (const manifest of all) {
      for (const name of [manifest.digest, ...manifest.tags]) {
        const target = manifestPath(repository, name);
        expectSame(await suite.wire.ask('GET', target, accepting), manifest);
        const head = await suite.wire.ask('HEAD', target, accepting);
        expect([head.status, head.bytes.length]).toEqual([200, 0]);
        expectHeaders(head, manifest);
      }
    }
  });
  if (hasTags) {
    suite.requires('tags/list has its tags, and `last` cuts the list where it says', async () => {
      const { repository, manifests: all } = await push();
      const tags = all.flatMap((manifest) => manifest.tags).sort();
      const list = async (query: string) => json(await suite.wire.ask('GET', `/v2/${repository}/tags/list${query}`));
      expect(await list('')).toEqual({ name: repository, tags });
      for (const [i, tag] of tags.entries()) expect((await list(`?last=${tag}`))['tags']).toEqual(tags.slice(i + 1));
    });
  }
  suite.requires('the list of referrers has exactly what refers to it, by type too', async () => {
    const { repository, manifests: all } = await push();
    const named = new Set([...all.map(({ digest }) => digest), ...all.flatMap(({ subject }) => subject ?? [])]);
    for (const digest of named) {
      const referring = all.filter(({ subject }) => subject === digest);
      const target = `/v2/${repository}/referrers/${digest}`;
      expect(byDigest(referrersIn(await suite.wire.ask('GET', target)))).toEqual(byDigest(referring.map(asReferrer)));
      for (const type of new Set(referring.map(({ artifactType }) => artifactType ?? ''))) {
        const answer = await suite.wire.ask('GET', `${target}?artifactType=${encodeURIComponent(type)}`);
        const applied = String(answer.headers['oci-filters-applied'] ?? '').split(/\s*,\s*/);
        expect(applied).toContain('artifactType');
        const wanted = referring.filter(({ artifactType }) => artifactType === type);
        expect(byDigest(referrersIn(answer))).toEqual(byDigest(wanted.map(asReferrer)));
      }
    }
  });
  suite.requires('tags, manifests and blobs can be deleted, and each is gone at once', async () => {
    const { repository, manifests: all, blobs } = await pushKind(suite, kind.make());
    for (const { tags } of all) for (const tag of tags) await expectDeleted(suite.wire, manifestPath(repository, tag));
    for (const { digest } of all.toReversed()) await expectDeleted(suite.wire, manifestPath(repository, digest));
    for (const digest of new Set(blobs.map((blob) => blob.digest)))
      await expectDeleted(suite.wire, blobPath(repository, digest));
  });
}

async function pushKind(suite: Suite, made: KindContent): Promise<PushedKind> {
  const repository = suite.repository();
  for (const blob of made.blobs) await pushBlob(suite.wire, repository, blob);
  const answers = [];
  for (const manifest of made.manifests) {
    for (const name of [manifest.digest, ...manifest.tags]) {
      const answer = await putManifest(suite.wire, repository, name, manifest.bytes, manifest.mediaType);
      expect(answer.status, 'status of the PUT').toBe(201);
      answers.push({ manifest, answer });
    }
  }
  return { blobs: made.blobs, manifests: made.manifests, repository, answers };
}

function expectSame(answer: Answer, manifest: KindManifest): void {
  expect(answer.status, 'status of the GET').toBe(200);
  expect(answer.bytes.equals(manifest.bytes), 'the bytes that were pushed').toBe(true);
  expectHeaders(answer, manifest);
}

function expectHeaders({ headers }: Answer, { mediaType, bytes, digest }: KindManifest): void {
  expect([headers['content-type'], headers['content-length']]).toEqual([mediaType, String(bytes.length)]);
  expect(headers['docker-content-digest']).toBe(digest);
}

function referrersIn(answer: Answer): readonly Descriptor[] {
  expect([answer.status, answer.headers['content-type']]).toEqual([200, mediaTypes.imageIndex]);
  const index = json(answer);
  expect([index['schemaVersion'], index['mediaType']]).toEqual([2, mediaTypes.imageIndex]);
  return index['manifests'] as readonly Descriptor[];
}

function asReferrer({ mediaType, digest, bytes, artifactType, annotations }: KindManifest): Descriptor {
  const described = { mediaType, digest, size: bytes.length };
  return {
    ...described,
    ...(artifactType === undefined ? {} : { artifactType }),
    ...(annotations === undefined ? {} : { annotations }),
  };
}

function byDigest(descriptors: readonly Descriptor[]): readonly Descriptor[] {
  return descriptors.toSorted((a, b) => (a.digest < b.digest ? -1 : 1));
}
