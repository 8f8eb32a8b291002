// Lists that never end, of registries that mean it and of those that do not know better.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { RemoteRegistry } from '../../src/registry/remote-registry.ts';
import { content, listAll } from '../support/registry-content.ts';
import { RegistryFront } from '../support/registry-front.ts';

const indexType = 'application/vnd.oci.image.index.v1+json';
const { digest } = content('the subject').descriptor;

let front: RegistryFront;
let registry: RemoteRegistry;
beforeEach(async () => {
  front = await RegistryFront.start(undefined);
  registry = new RemoteRegistry({ host: front.host });
});
afterEach(async () => {
  await registry.close();
  await front.close();
});

/** Page after page with an item of `size` bytes each, and the link that `link` makes of the page's number. */
function pages(size: number, link: (page: number) => string): void {
  let page = 0;
  front.interfere(
    () => true,
    (request, response) => {
      page += 1;
      const name = `${page}${'x'.repeat(size)}`;
      const item = { mediaType: 'a/b', digest: content(name).descriptor.digest, size: 1, annotations: { name } };
      const manifests = request.url?.includes('/referrers/') === true ? [item] : undefined;
      response.writeHead(200, { 'content-type': indexType, link: `<${link(page)}>; rel="next"` });
      response.end(
        JSON.stringify({ schemaVersion: 2, mediaType: indexType, manifests, tags: [name], repositories: [name] }),
      );
    },
  );
}

describe.each<[string, () => AsyncIterable<unknown>, string]>([
  ['tags', () => registry.tags('a/b'), '/v2/a/b/tags/list'],
  ['repositories', () => registry.repositories(), '/v2/_catalog'],
  ['referrers', () => registry.referrers('a/b', digest), `/v2/a/b/referrers/${digest}`],
])('the list of %s', (name, list, path) => {
  it('is over when it grows beyond what anybody has', async () => {
    pages(name === 'referrers' ? 3_900_000 : 15_000_000, (page) => `${path}?last=${page}`);
    await expect(listAll(list())).rejects.toMatchObject({ code: 'TOO_LARGE' });
    expect(front.bytesOut).toBeLessThan(100 * 1024 * 1024);
  });

  it('is over when its links outgrow the head of an answer', async () => {
    pages(10, (page) => `${path}?last=${'x'.repeat(page * 1_000)}`);
    await expect(listAll(list())).rejects.toMatchObject({ code: 'TOO_LARGE' });
    expect(front.requests.length).toBeLessThan(20);
  });
});

it('a page of referrers that links to itself is the last one', async () => {
  pages(10, () => `/v2/a/b/referrers/${digest}`);
  expect(await listAll(registry.referrers('a/b', digest))).toHaveLength(1);
  expect(front.requests).toHaveLength(1);
});

it('pages of referrers that link to each other are each read once', async () => {
  pages(10, (page) => `/v2/a/b/referrers/${digest}?page=${page % 2}`);
  expect(await listAll(registry.referrers('a/b', digest))).toHaveLength(3);
});

it('an empty page of tags is not the last one when it links to another, and one that links to itself is', async () => {
  front.interfere(
    () => true,
    ({ url = '' }, response) => {
      const page = Number(/page=(\d)/.exec(url)?.[1] ?? 0);
      response.writeHead(200, { link: `</v2/a/b/tags/list?page=${Math.min(page + 1, 3)}>; rel="next"` });
      response.end(JSON.stringify({ name: 'a/b', tags: page % 2 === 0 ? [] : [`v${page}`] }));
    },
  );
  expect(await listAll(registry.tags('a/b'))).toEqual(['v1', 'v3']);
  expect(front.requests).toHaveLength(4);
});

it('pages go on where the registry sent us', async () => {
  const other = await RegistryFront.start(undefined);
  front.interfere(
    () => true,
    ({ url }, response) => void response.writeHead(307, { location: `http://${other.host}${url}` }).end(),
  );
  other.interfere(
    () => true,
    ({ url = '' }, response) => {
      const isLast = url.includes('last=');
      const link = { link: `<http://${other.host}/v2/a/b/tags/list?last=v1>; rel="next"` };
      response.writeHead(200, isLast ? {} : link).end(JSON.stringify({ tags: [isLast ? 'v2' : 'v1'] }));
    },
  );
  try {
    expect(await listAll(registry.tags('a/b'))).toEqual(['v1', 'v2']);
  } finally {
    await other.close();
  }
});
