import { expect } from 'vitest';
import { blobOf, blobPath, expectDeleted, manifestPath } from './actions.ts';
import { accepting, emptyIndex, pushEmptyIndex } from './simple-manifests.ts';
import type { Suite } from './suite.ts';
import { codeOf, json } from './wire.ts';

export function deletesAndErrors(suite: Suite): void {
  const tagsOf = async (repository: string) => json(await suite.wire.ask('GET', `/v2/${repository}/tags/list`))['tags'];

  suite.section('Deleting tags', () => {
    suite.requires('DELETE of a tag is 202; the manifest and its other tags stay', async () => {
      const repository = suite.repository();
      const { digest } = await pushEmptyIndex(suite, repository, 'one', 'same');
      await pushEmptyIndex(suite, repository, 'two', 'same');
      await expectDeleted(suite.wire, manifestPath(repository, 'one'));
      expect(await tagsOf(repository)).toEqual(['two']);
      for (const name of ['two', digest])
        expect((await suite.wire.ask('GET', manifestPath(repository, name), accepting)).status).toBe(200);
    });
    suite.requires('DELETE of a missing tag is 404', async () => {
      const repository = suite.repository();
      await pushEmptyIndex(suite, repository, 'one');
      expect((await suite.wire.ask('DELETE', manifestPath(repository, 'two'))).status).toBe(404);
    });
  });

  suite.section('Deleting Manifests', () => {
    suite.requires('DELETE of a manifest is 202, and GET of every tag that pointed to it is 404', async () => {
      const repository = suite.repository();
      const { digest } = await pushEmptyIndex(suite, repository, 'one', 'same');
      await pushEmptyIndex(suite, repository, 'two', 'same');
      await pushEmptyIndex(suite, repository, 'three');
      await expectDeleted(suite.wire, manifestPath(repository, digest));
      for (const name of [digest, 'one', 'two'])
        expect((await suite.wire.ask('GET', manifestPath(repository, name), accepting)).status, name).toBe(404);
      expect(await tagsOf(repository)).toEqual(['three']);
    });
    suite.requires('DELETE of a missing manifest is 404', async () => {
      const repository = suite.repository();
      await pushEmptyIndex(suite, repository, 'one');
      for (const name of [suite.repository(), repository]) {
        const target = manifestPath(name, emptyIndex('never').digest);
        expect((await suite.wire.ask('DELETE', target)).status).toBe(404);
      }
    });
  });

  suite.section('Error Codes', () => {
    suite.requires('GET and HEAD of a missing manifest are 404 MANIFEST_UNKNOWN, by digest and by tag', async () => {
      const repository = suite.repository();
      await pushEmptyIndex(suite, repository, 'v1');
      for (const name of [emptyIndex('never').digest, 'never']) {
        const answer = await suite.wire.ask('GET', manifestPath(repository, name), accepting);
        expect([answer.status, codeOf(answer)]).toEqual([404, 'MANIFEST_UNKNOWN']);
        const head = await suite.wire.ask('HEAD', manifestPath(repository, name), accepting);
        expect([head.status, head.bytes.length]).toEqual([404, 0]);
      }
    });
    suite.requires('a repository nobody has pushed to is 404', async () => {
      for (const name of [emptyIndex('never').digest, 'never'])
        expect((await suite.wire.ask('GET', manifestPath(suite.repository(), name))).status).toBe(404);
    });
    suite.requires('a manifest at a digest that is none is 400 or 404', async () => {
      const target = manifestPath(suite.repository(), 'sha256:totallywrong');
      const answer = await suite.wire.ask('GET', target);
      expect([400, 404]).toContain(answer.status);
      expect(['DIGEST_INVALID', 'NAME_INVALID', 'MANIFEST_INVALID', 'MANIFEST_UNKNOWN']).toContain(codeOf(answer));
    });
    suite.requires('an error is JSON with a code and a message', async () => {
      const answer = await suite.wire.ask('GET', blobPath(suite.repository(), blobOf('x').digest));
      expect(answer.headers['content-type']).toMatch(/^application\/json(?:;|$)/);
      const { errors } = json(answer) as { errors: Record<string, unknown>[] };
      expect(errors).toHaveLength(1);
      expect(errors[0]).toMatchObject({ code: expect.stringMatching(/^[A-Z_]+$/), message: expect.any(String) });
    });
    suite.requires('paths that try to leave their place are refused', async () => {
      const { digest } = blobOf('x');
      for (const path of [
        `/v2/a%2f..%2f..%2fetc/blobs/${digest}`,
        '/v2/a/manifests/..%2f..%2fetc',
        `/v2/_etc/blobs/${digest}`,
        '/v2/a/manifests/%00',
        '/v2/a/manifests/%zz',
      ])
        expect([400, 404], path).toContain((await suite.wire.ask('GET', path)).status);
    });
  });
}
