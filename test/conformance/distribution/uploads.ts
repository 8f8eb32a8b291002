import { expect } from 'vitest';
import {
  blobOf,
  blobPath,
  expectNotAllowed,
  expectStored,
  location,
  octets,
  opened,
  pushBlob,
  sendChunk,
  startUpload,
  withDigest,
} from './actions.ts';
import type { Blob } from './actions.ts';
import type { Suite } from './suite.ts';
import { codeOf } from './wire.ts';
import type { Answer } from './wire.ts';

export function uploads(suite: Suite): void {
  for (const algorithm of ['sha256', 'sha512'] as const) {
    suite.section(`Pushing a blob monolithically, ${algorithm}`, () => {
      const post = (repository: string, blob: Blob, bytes: Uint8Array) =>
        suite.wire.ask('POST', withDigest(`/v2/${repository}/blobs/uploads/`, blob.digest), {
          headers: octets,
          body: bytes,
        });
      for (const value of [2_048, '', '{}']) {
        const name = value === '' ? 'an empty blob' : value === '{}' ? '{}' : 'a blob';
        suite.requires(`a single POST of ${name} is 201`, async () => {
          const blob = blobOf(value, algorithm);
          await expectStored(suite.wire, await post(suite.repository(), blob, blob.bytes), blob);
        });
        suite.requires(`POST then PUT of ${name} is 201`, async () => {
          const blob = blobOf(value, algorithm);
          await expectStored(suite.wire, await pushBlob(suite.wire, suite.repository(), blob), blob);
        });
      }
      suite.requires('a wrong digest is 400 DIGEST_INVALID in a single POST, and nothing is stored', async () => {
        const repository = suite.repository();
        const blob = blobOf('other', algorithm);
        const answer = await post(repository, blob, Buffer.from('abc'));
        expect(answer.status, 'status of the end').toBe(400);
        expect(codeOf(answer)).toBe('DIGEST_INVALID');
        expect((await suite.wire.ask('HEAD', blobPath(repository, blob.digest))).status).toBe(404);
      });
      suite.requires('a wrong digest is 400 DIGEST_INVALID in a PUT, and nothing is stored', async () => {
        const repository = suite.repository();
        const blob = blobOf('other', algorithm);
        const target = withDigest(await startUpload(suite.wire, repository, algorithm), blob.digest);
        const answer = await suite.wire.ask('PUT', target, { headers: octets, body: 'abc' });
        expect([answer.status, codeOf(answer)]).toEqual([400, 'DIGEST_INVALID']);
        expect((await suite.wire.ask('HEAD', blobPath(repository, blob.digest))).status).toBe(404);
      });
    });

    suite.section(`Pushing a blob in chunks, ${algorithm}`, () => {
      suite.requires('one chunk and an empty PUT are 202 and 201', async () => {
        const blob = blobOf(4_000, algorithm);
        const upload = await Upload.start(suite, blob, algorithm);
        await upload.accepted(0, 4_000);
        await expectStored(suite.wire, await upload.finish(), blob);
      });
      suite.requires('three chunks and an empty PUT are 202, each with its Range, and 201', async () => {
        const blob = blobOf(6_000, algorithm);
        const upload = await Upload.start(suite, blob, algorithm);
        for (const start of [0, 2_000, 4_000]) await upload.accepted(start, start + 2_000);
        await expectStored(suite.wire, await upload.finish(), blob);
      });
      suite.requires('the last chunk may come with the PUT', async () => {
        const blob = blobOf(6_000, algorithm);
        const upload = await Upload.start(suite, blob, algorithm);
        for (const start of [0, 2_000]) await upload.accepted(start, start + 2_000);
        await expectStored(suite.wire, await upload.finish(4_000), blob);
      });
      suite.requires('a body without Content-Range is streamed to the end', async () => {
        const blob = blobOf(100_000, algorithm);
        const target = await startUpload(suite.wire, suite.repository(), algorithm);
        const answer = await suite.wire.ask('PATCH', target, { headers: octets, body: blob.bytes, streamed: true });
        expect(answer.status).toBe(202);
        const end = await suite.wire.ask('PUT', withDigest(location(answer), blob.digest));
        await expectStored(suite.wire, end, blob);
      });
      suite.requires('a wrong digest after a streamed body is 400 DIGEST_INVALID', async () => {
        const target = await startUpload(suite.wire, suite.repository(), algorithm);
        const sent = await suite.wire.ask('PATCH', target, { headers: octets, body: 'abc', streamed: true });
        expect(sent.status).toBe(202);
        const answer = await suite.wire.ask('PUT', withDigest(location(sent), blobOf('other', algorithm).digest));
        expect([answer.status, codeOf(answer)]).toEqual([400, 'DIGEST_INVALID']);
      });
      suite.requires('a wrong digest after chunks is 400 DIGEST_INVALID', async () => {
        const blob = blobOf(4_000, algorithm);
        const upload = await Upload.start(suite, blob, algorithm);
        await upload.accepted(0, 4_000);
        const wrong = withDigest(upload.target, blobOf('other', algorithm).digest);
        const answer = await suite.wire.ask('PUT', wrong);
        expect([answer.status, codeOf(answer)]).toEqual([400, 'DIGEST_INVALID']);
      });
    });
  }

  suite.section('Pushing a blob in chunks', () => {
    suite.requires('a chunk out of order is 416, as the first one too', async () => {
      const upload = await Upload.start(suite, blobOf(6_000));
      expect((await upload.send(2_000, 4_000)).status).toBe(416);
      await upload.accepted(0, 2_000);
      expect((await upload.send(4_000, 6_000)).status).toBe(416);
      expect((await upload.send(0, 2_000)).status).toBe(416);
    });
    suite.requires('a last chunk out of order in the PUT is 416', async () => {
      const blob = blobOf(6_000);
      const upload = await Upload.start(suite, blob);
      await upload.accepted(0, 2_000);
      expect((await upload.finish(4_000)).status).toBe(416);
    });
    suite.requires('a 416 tells in Range and Location where the upload stands', async () => {
      const upload = await Upload.start(suite, blobOf(6_000));
      await upload.accepted(0, 2_000);
      const answer = await upload.send(4_000, 6_000);
      expect([answer.status, answer.headers.range]).toEqual([416, '0-1999']);
      expect(location(answer)).not.toBe('');
    });
    suite.requires('after a 416, GET of the session is 204 with where it stands, and it goes on', async () => {
      const blob = blobOf(6_000);
      const upload = await Upload.start(suite, blob);
      await upload.accepted(0, 2_000);
      expect((await upload.send(4_000, 6_000)).status).toBe(416);
      const status = await suite.wire.ask('GET', upload.target);
      expect([status.status, status.headers.range]).toEqual([204, '0-1999']);
      upload.target = location(status);
      await upload.accepted(2_000, 4_000);
      await expectStored(suite.wire, await upload.finish(4_000), blob);
    });
    suite.requires('a Content-Range that is none is refused, and one that does not fit the body', async () => {
      const target = await startUpload(suite.wire, suite.repository());
      for (const range of ['abc', '0-10', '2-0']) {
        const headers = { ...octets, 'content-range': range };
        const answer = await suite.wire.ask('PATCH', target, { headers, body: 'abc' });
        expect([400, 416], `status of ${range}`).toContain(answer.status);
      }
    });
    suite.requires('a streamed body that does not fit its Content-Range is refused', async () => {
      const target = await startUpload(suite.wire, suite.repository());
      for (const body of ['ab', 'abcd']) {
        const headers = { ...octets, 'content-range': '0-2' };
        const answer = await suite.wire.ask('PATCH', target, { headers, body, streamed: true });
        expect([400, 416], `status of ${body}`).toContain(answer.status);
      }
    });
    suite.requires('a session that does not exist is 404 BLOB_UPLOAD_UNKNOWN', async () => {
      const repository = suite.repository();
      const target = await startUpload(suite.wire, repository);
      const blob = blobOf(10);
      const end = await suite.wire.ask('PUT', withDigest(target, blob.digest), { headers: octets, body: blob.bytes });
      expect(end.status).toBe(201);
      for (const method of ['GET', 'PATCH', 'DELETE']) {
        const answer = await suite.wire.ask(method, target);
        expect(answer.status, method).toBe(404);
        expect(codeOf(answer), method).toBe('BLOB_UPLOAD_UNKNOWN');
      }
    });
    suite.requires('a session of one repository is none of another', async () => {
      const [one, two] = [suite.repository(), suite.repository()];
      const foreign = (await startUpload(suite.wire, one)).replace(one, two);
      const answer = await suite.wire.ask('PATCH', foreign, { headers: octets, body: 'abc' });
      expect(answer.status).toBe(404);
    });
    suite.requires('a PUT without a digest is 400 DIGEST_INVALID', async () => {
      const target = await startUpload(suite.wire, suite.repository());
      const answer = await suite.wire.ask('PUT', target, { headers: octets, body: 'abc' });
      expect([answer.status, codeOf(answer)]).toEqual([400, 'DIGEST_INVALID']);
    });
    suite.requires('a digest algorithm that does not exist is 400', async () => {
      const target = `/v2/${suite.repository()}/blobs/uploads/?digest-algorithm=md5`;
      expect((await suite.wire.ask('POST', target)).status).toBe(400);
    });
    suite.requires('a client that waits for 100 Continue is told to go on', async () => {
      const blob = blobOf(10_000);
      const target = withDigest(await startUpload(suite.wire, suite.repository()), blob.digest);
      const headers = { ...octets, 'content-length': blob.bytes.length, expect: '100-continue' };
      const answer = await suite.wire.ask('PUT', target, { headers, body: blob.bytes });
      expect(answer.continued).toBe(true);
      await expectStored(suite.wire, answer, blob);
    });
    suite.requires('the path of uploads takes POST only: others are 405 with Allow', async () => {
      const answer = await suite.wire.ask('GET', `/v2/${suite.repository()}/blobs/uploads/`);
      expectNotAllowed(answer, 'GET');
    });
  });

  suite.section('Cancel a blob upload', () => {
    suite.requires('DELETE of a session is 204, and it is gone', async () => {
      const target = await startUpload(suite.wire, suite.repository());
      expect((await suite.wire.ask('DELETE', target)).status).toBe(204);
      expect((await suite.wire.ask('PATCH', target, { headers: octets, body: 'abc' })).status).toBe(404);
    });
  });
}

/** One upload in chunks, which follows the Location of each answer. */
class Upload {
  target: string;
  readonly #suite: Suite;
  readonly #blob: Blob;

  private constructor(suite: Suite, blob: Blob, target: string) {
    this.#suite = suite;
    this.#blob = blob;
    this.target = target;
  }

  static async start(suite: Suite, blob: Blob, algorithm: 'sha256' | 'sha512' = 'sha256'): Promise<Upload> {
    const answer = await opened(suite.wire, suite.repository(), algorithm);
    expect(Number(answer.headers['oci-chunk-min-length'] ?? 0), 'oci-chunk-min-length').toBeLessThanOrEqual(1_000);
    return new Upload(suite, blob, location(answer));
  }

  send(start: number, end: number): Promise<Answer> {
    return sendChunk(this.#suite.wire, this.target, this.#blob, start, end);
  }

  async accepted(start: number, end: number): Promise<void> {
    const answer = await this.send(start, end);
    expect([answer.status, answer.headers.range]).toEqual([202, `0-${end - 1}`]);
    this.target = location(answer);
  }

  /** With the bytes from `start` on, when there are some left. */
  finish(start?: number): Promise<Answer> {
    const target = withDigest(this.target, this.#blob.digest);
    if (start === undefined) return this.#suite.wire.ask('PUT', target);
    return sendChunk(this.#suite.wire, target, this.#blob, start, this.#blob.bytes.length, 'PUT');
  }
}
