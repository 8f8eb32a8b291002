import { expect } from 'vitest';
import { mediaTypes } from '../../../src/oci/media-type.ts';
import { content } from '../../support/registry-content.ts';
import { expectNotAllowed, putManifest } from './actions.ts';
import { pushEmptyIndex } from './simple-manifests.ts';
import type { Suite } from './suite.ts';
import { codeOf, json } from './wire.ts';
import type { Answer } from './wire.ts';

const names = ['a', 'b', 'c', 'd', 'e'];

export function lists(suite: Suite): void {
  let repository: Promise<string> | undefined;
  const tagsAt = async (query: string): Promise<Answer> => {
    repository ??= (async () => {
      const name = suite.repository();
      for (const tag of ['c', 'a', 'e', 'b', 'd']) await pushEmptyIndex(suite, name, tag);
      return name;
    })();
    return await suite.wire.ask('GET', `/v2/${await repository}/tags/list${query}`);
  };
  const tagsIn = (answer: Answer) => json(answer)['tags'];

  suite.section('Listing Tags', () => {
    suite.requires('a repository nobody has pushed to is 404 NAME_UNKNOWN', async () => {
      const answer = await suite.wire.ask('GET', `/v2/${suite.repository()}/tags/list`);
      expect([answer.status, codeOf(answer)]).toEqual([404, 'NAME_UNKNOWN']);
    });
    suite.requires('all tags come in order, as JSON, with the name', async () => {
      const answer = await tagsAt('');
      expect(answer.status).toBe(200);
      expect(answer.headers['content-type']).toMatch(/^application\/json(?:;|$)/);
      expect(json(answer)).toEqual({ name: await repository, tags: names });
    });
    suite.requires('n gives so many, and a Link to the rest', async () => {
      const answer = await tagsAt('?n=2');
      expect([answer.status, tagsIn(answer)]).toEqual([200, ['a', 'b']]);
      expect(answer.headers['link']).toMatch(/^<[^>]+>; rel="next"$/);
    });
    suite.requires('the Links lead through all pages to the end', async () => {
      await tagsAt('');
      const seen: unknown[] = [];
      let target: string | undefined = `/v2/${await repository}/tags/list?n=2`;
      while (target !== undefined) {
        const answer: Answer = await suite.wire.ask('GET', target);
        seen.push(tagsIn(answer));
        target = /^<([^>]+)>/.exec(String(answer.headers['link'] ?? ''))?.[1];
      }
      expect(seen).toEqual([['a', 'b'], ['c', 'd'], ['e']]);
    });
    suite.requires('n of all there are, or more, gives all without a Link', async () => {
      for (const n of [5, 6, 100]) {
        const answer = await tagsAt(`?n=${n}`);
        expect([tagsIn(answer), answer.headers['link']]).toEqual([names, undefined]);
      }
    });
    suite.requires('n=0 gives an empty list without a Link', async () => {
      const answer = await tagsAt('?n=0');
      expect([answer.status, tagsIn(answer), answer.headers['link']]).toEqual([200, [], undefined]);
    });
    suite.requires('an n that is no number is 400', async () => {
      for (const n of ['x', '-1', '1.5']) expect((await tagsAt(`?n=${n}`)).status, n).toBe(400);
    });
    suite.requires('last begins after it, whether or not it exists', async () => {
      expect(tagsIn(await tagsAt('?last=b'))).toEqual(['c', 'd', 'e']);
      expect(tagsIn(await tagsAt('?last=bb'))).toEqual(['c', 'd', 'e']);
      expect(tagsIn(await tagsAt('?last=e'))).toEqual([]);
    });
    suite.requires('last and n together give so many after it', async () => {
      expect(tagsIn(await tagsAt('?last=b&n=2'))).toEqual(['c', 'd']);
    });
    suite.requires('other methods are 405 with Allow', async () => {
      const answer = await suite.wire.ask('DELETE', `/v2/${suite.repository()}/tags/list`);
      expectNotAllowed(answer, 'DELETE');
    });
  });

  suite.section('Listing Repositories', () => {
    suite.requires('_catalog has them in order, page by page', async () => {
      const [first, second] = [suite.repository(), suite.repository()].toSorted();
      for (const name of [first, second]) await pushEmptyIndex(suite, name ?? '', 'v1');
      const all = json(await suite.wire.ask('GET', '/v2/_catalog'))['repositories'] as string[];
      expect(all).toEqual(all.toSorted());
      expect(all.filter((name) => name === first || name === second)).toEqual([first, second]);
      const page = await suite.wire.ask('GET', `/v2/_catalog?n=1&last=${all[0]}`);
      expect(json(page)['repositories']).toEqual([all[1]]);
    });
  });

  suite.section('Listing Referrers', () => {
    const subject = content('nobody pushed this', mediaTypes.imageManifest).descriptor;
    const referrersOf = (repository: string, digest: string, query = '') =>
      suite.wire.ask('GET', `/v2/${repository}/referrers/${digest}${query}`);

    suite.requires('of what nobody knows it is 200 with an empty index, in any repository', async () => {
      const used = suite.repository();
      await pushEmptyIndex(suite, used, 'v1');
      for (const repository of [suite.repository(), used]) {
        const answer = await referrersOf(repository, subject.digest);
        expect([answer.status, answer.headers['content-type']]).toEqual([200, mediaTypes.imageIndex]);
        expect(json(answer)).toEqual({ schemaVersion: 2, mediaType: mediaTypes.imageIndex, manifests: [] });
      }
    });
    suite.requires('of a digest that is none it is 400', async () => {
      expect((await referrersOf(suite.repository(), 'sha256:wrong')).status).toBe(400);
    });
    suite.requires('a filter that nothing passes gives none, and is told', async () => {
      const answer = await referrersOf(suite.repository(), subject.digest, '?artifactType=a/b');
      expect(answer.status).toBe(200);
      expect(json(answer)['manifests']).toEqual([]);
      expect(answer.headers['oci-filters-applied']).toBe('artifactType');
    });
    suite.requires('a deleted manifest is listed no more', async () => {
      const repository = suite.repository();
      const document = { schemaVersion: 2, mediaType: mediaTypes.imageIndex, manifests: [], subject };
      const referrer = content(JSON.stringify(document), mediaTypes.imageIndex);
      const { digest } = referrer.descriptor;
      const put = await putManifest(suite.wire, repository, digest, referrer.bytes, mediaTypes.imageIndex);
      expect([put.status, put.headers['oci-subject']]).toEqual([201, subject.digest]);
      expect(json(await referrersOf(repository, subject.digest))['manifests']).toHaveLength(1);
      expect((await suite.wire.ask('DELETE', `/v2/${repository}/manifests/${digest}`)).status).toBe(202);
      expect(json(await referrersOf(repository, subject.digest))['manifests']).toEqual([]);
    });
    suite.requires('other methods are 405 with Allow', async () => {
      const answer = await suite.wire.ask('POST', `/v2/${suite.repository()}/referrers/${subject.digest}`);
      expectNotAllowed(answer, 'POST');
    });
  });
}
