import { expect } from 'vitest';
import { blobOf, blobPath, expectDeleted, expectNotAllowed, location, octets, pushBlob } from './actions.ts';
import type { Suite } from './suite.ts';
import { codeOf } from './wire.ts';

export function blobs(suite: Suite): void {
  suite.section('Determining Support', () => {
    suite.requires('GET /v2/ is 200', async () => {
      const answer = await suite.wire.ask('GET', '/v2/');
      expect(answer.status).toBe(200);
      expect(answer.headers['docker-distribution-api-version']).toBe('registry/2.0');
    });
    suite.requires('what is not of the API is 404', async () => {
      expect((await suite.wire.ask('GET', '/')).status).toBe(404);
      expect((await suite.wire.ask('GET', '/v3/')).status).toBe(404);
    });
    suite.requires('/v2/ is for reading: other methods are 405 with Allow', async () => {
      const answer = await suite.wire.ask('DELETE', '/v2/');
      expectNotAllowed(answer, 'DELETE');
    });
  });

  for (const algorithm of ['sha256', 'sha512'] as const) {
    suite.section(`Pulling blobs, ${algorithm}`, () => {
      suite.requires('GET and HEAD of a missing blob are 404 BLOB_UNKNOWN', async () => {
        const { digest } = blobOf('never pushed', algorithm);
        for (const repository of [suite.repository(), suite.repository()]) {
          const answer = await suite.wire.ask('GET', blobPath(repository, digest));
          expect([answer.status, codeOf(answer)]).toEqual([404, 'BLOB_UNKNOWN']);
          const head = await suite.wire.ask('HEAD', blobPath(repository, digest));
          expect([head.status, head.bytes.length]).toEqual([404, 0]);
          await pushBlob(suite.wire, repository, blobOf(1));
        }
      });
      for (const [name, value] of [
        ['an ordinary blob', 2_048],
        ['an empty blob', ''],
        ['the blob {}', '{}'],
      ] as const) {
        suite.requires(`HEAD of ${name} is 200 with its length and no body`, async () => {
          const repository = suite.repository();
          const blob = blobOf(value, algorithm);
          await pushBlob(suite.wire, repository, blob);
          const head = await suite.wire.ask('HEAD', blobPath(repository, blob.digest));
          expect([head.status, head.bytes.length]).toEqual([200, 0]);
          expect(head.headers['content-length']).toBe(String(blob.bytes.length));
          expect(head.headers['docker-content-digest']).toBe(blob.digest);
        });
        suite.requires(`GET of ${name} is 200 with its bytes, length and digest`, async () => {
          const repository = suite.repository();
          const blob = blobOf(value, algorithm);
          await pushBlob(suite.wire, repository, blob);
          const got = await suite.wire.ask('GET', blobPath(repository, blob.digest));
          expect([got.status, got.headers['content-length']]).toEqual([200, String(blob.bytes.length)]);
          expect(got.bytes.equals(blob.bytes)).toBe(true);
          expect(got.headers['docker-content-digest']).toBe(blob.digest);
        });
        suite.requires(`DELETE of ${name} is 202, and it is gone at once (Deleting Blobs)`, async () => {
          const repository = suite.repository();
          const blob = blobOf(value, algorithm);
          await pushBlob(suite.wire, repository, blob);
          await expectDeleted(suite.wire, blobPath(repository, blob.digest));
        });
      }
    });
  }

  suite.section('Pulling blobs', () => {
    suite.requires('DELETE of a missing blob is 404 (Deleting Blobs)', async () => {
      const repository = suite.repository();
      await pushBlob(suite.wire, repository, blobOf(1));
      expect((await suite.wire.ask('DELETE', blobPath(repository, blobOf('gone').digest))).status).toBe(404);
    });
    suite.requires('a deleted blob can be pushed again', async () => {
      const repository = suite.repository();
      const blob = blobOf(100);
      await pushBlob(suite.wire, repository, blob);
      await expectDeleted(suite.wire, blobPath(repository, blob.digest));
      await pushBlob(suite.wire, repository, blob);
      expect((await suite.wire.ask('HEAD', blobPath(repository, blob.digest))).status).toBe(200);
    });
    suite.requires('a blob of one repository is not one of another', async () => {
      const blob = blobOf(100);
      await pushBlob(suite.wire, suite.repository(), blob);
      expect((await suite.wire.ask('GET', blobPath(suite.repository(), blob.digest))).status).toBe(404);
    });
    suite.requires('a digest that is none is 400 DIGEST_INVALID', async () => {
      const answer = await suite.wire.ask('GET', blobPath(suite.repository(), 'sha256:totallywrong'));
      expect([answer.status, codeOf(answer)]).toEqual([400, 'DIGEST_INVALID']);
    });
    suite.requires('a name that is none is 400 NAME_INVALID', async () => {
      const answer = await suite.wire.ask('GET', blobPath('Upper/case', blobOf('x').digest));
      expect([answer.status, codeOf(answer)]).toEqual([400, 'NAME_INVALID']);
    });
    suite.requires('other methods are 405 with Allow', async () => {
      const answer = await suite.wire.ask('PUT', blobPath(suite.repository(), blobOf('x').digest), { body: 'x' });
      expectNotAllowed(answer, 'PUT');
    });
    suite.requires('a blob that the client has already is 304 (RFC 9110, If-None-Match)', async () => {
      const repository = suite.repository();
      const blob = blobOf(100);
      await pushBlob(suite.wire, repository, blob);
      const target = blobPath(repository, blob.digest);
      const etag = (await suite.wire.ask('HEAD', target)).headers.etag ?? '';
      for (const condition of [etag, `W/${etag}`, `"other", ${etag}`, '*']) {
        const answer = await suite.wire.ask('GET', target, { headers: { 'if-none-match': condition } });
        expect([answer.status, answer.bytes.length]).toEqual([304, 0]);
      }
      const other = await suite.wire.ask('GET', target, { headers: { 'if-none-match': '"other"' } });
      expect(other.status).toBe(200);
    });
  });

  suite.section('Mounting a blob from another repository', () => {
    const mount = (repository: string, query: string) =>
      suite.wire.ask('POST', `/v2/${repository}/blobs/uploads/?${query}`);
    suite.requires('a blob of another repository is 201 with where it is now', async () => {
      for (const algorithm of ['sha256', 'sha512'] as const) {
        const [from, to] = [suite.repository(), suite.repository()];
        const blob = blobOf(100, algorithm);
        await pushBlob(suite.wire, from, blob);
        const answer = await mount(to, `mount=${blob.digest}&from=${from}`);
        expect(answer.status).toBe(201);
        expect(new URL(location(answer), 'http://x').pathname).toBe(blobPath(to, blob.digest));
        expect((await suite.wire.ask('GET', location(answer))).bytes.equals(blob.bytes)).toBe(true);
      }
    });
    suite.requires('what cannot be mounted is 202, and the upload goes on from there', async () => {
      const [from, to] = [suite.repository(), suite.repository()];
      const blob = blobOf(100);
      await pushBlob(suite.wire, from, blob);
      const missing = blobOf('missing');
      for (const query of [
        `mount=${missing.digest}&from=${from}`,
        `mount=${missing.digest}&from=${suite.repository()}`,
      ]) {
        const answer = await mount(to, query);
        expect(answer.status).toBe(202);
        const target = `${location(answer)}${location(answer).includes('?') ? '&' : '?'}digest=${missing.digest}`;
        expect((await suite.wire.ask('PUT', target, { headers: octets, body: missing.bytes })).status).toBe(201);
      }
    });
    suite.requires('without `from` it is 202, or 201 of a blob that is there', async () => {
      const [from, to] = [suite.repository(), suite.repository()];
      const blob = blobOf(100);
      await pushBlob(suite.wire, from, blob);
      const answer = await mount(to, `mount=${blob.digest}`);
      expect(location(answer)).not.toBe('');
      if (answer.status === 201) expect((await suite.wire.ask('GET', location(answer))).status).toBe(200);
      else expect(answer.status).toBe(202);
    });
    suite.requires('names and digests that are none are 202 too', async () => {
      for (const query of ['mount=sha256:wrong&from=a', `mount=${blobOf('x').digest}&from=../x`])
        expect((await mount(suite.repository(), query)).status).toBe(202);
    });
  });
}
