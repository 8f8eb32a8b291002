import { request } from 'undici';
import type { Dispatcher } from 'undici';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { Descriptor } from '../../../src/oci/descriptor.ts';
import { MemoryRegistry, serveRegistry } from '../../../src/registry/registry.ts';
import { pushImage } from '../../support/registry-content.ts';

/** The digests of each page, as its Links lead to them. */
async function pagesOf(base: string, first: string): Promise<string[][]> {
  const pages: string[][] = [];
  for (let next: string | undefined = first; next !== undefined; ) {
    const answer: Dispatcher.ResponseData = await request(new URL(next, base));
    expect(answer.statusCode).toBe(200);
    const { manifests } = (await answer.body.json()) as { readonly manifests: readonly Descriptor[] };
    pages.push(manifests.map(({ digest }) => digest));
    next = /^<([^>]+)>; *rel="?next"?$/.exec(String(answer.headers['link'] ?? ''))?.[1];
  }
  return pages;
}

describe('a list of referrers in pages', () => {
  it.each([
    ['all', '', ['a/b', 'c/d', 'a/b', 'a/b', 'c/d'], [2, 2, 1]],
    ['those of one type', '?artifactType=a%2Fb', ['a/b', 'c/d', 'a/b', 'a/b', 'c/d'], [2, 1]],
  ])('has %s, once each, by Link', async (_what, query, types, sizes) => {
    const registry = new MemoryRegistry();
    const server = await serveRegistry(registry, { maxPageSize: 2 });
    onTestFinished(() => server.close());
    const { manifest } = await pushImage(registry, 'a', 'v1');
    const wanted: string[] = [];
    for (const artifactType of types) {
      const referrer = await pushImage(registry, 'a', undefined, { subject: manifest.descriptor, artifactType });
      if (query === '' || artifactType === 'a/b') wanted.push(referrer.manifest.descriptor.digest);
    }
    const pages = await pagesOf(server.url, `/v2/a/referrers/${manifest.descriptor.digest}${query}`);
    expect(pages.map((page) => page.length)).toEqual(sizes);
    expect(pages.flat().sort()).toEqual(wanted.sort());
  });
});
