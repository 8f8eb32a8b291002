// Tags, repositories and referrers, page by page.
import type { Descriptor } from '../../oci/descriptor.ts';
import { mediaTypes } from '../../oci/media-type.ts';
import { RegistryError } from '../errors.ts';
import { checkDigest } from '../names.ts';
import type { ListOptions } from '../interface.ts';
import { methodNotAllowed, respondJson } from './exchange.ts';
import type { Exchange } from './exchange.ts';

/** A page of referrers stays well below what clients are willing to read. */
const maxReferrersBytes = 3 * 1024 * 1024;

export async function handleTags(exchange: Exchange, repository: string): Promise<void> {
  const { page, link } = await namePage(exchange, (options) => exchange.registry.tags(repository, options));
  respondJson(exchange, 200, { name: repository, tags: page }, link);
}

export async function handleCatalog(exchange: Exchange): Promise<void> {
  const { page, link } = await namePage(exchange, (options) => exchange.registry.repositories(options));
  respondJson(exchange, 200, { repositories: page }, link);
}

/** `last`, our own parameter in the Link, is the digest of the last one on the page before. */
export async function handleReferrers(exchange: Exchange, repository: string, digestText: string): Promise<void> {
  const { registry, url, signal, options } = exchange;
  checkIsGet(exchange);
  if (!options.referrersApi) throw new RegistryError('NAME_UNKNOWN', 'this registry has no referrers api');
  const digest = checkDigest(digestText);
  const artifactType = url.searchParams.get('artifactType') ?? undefined;
  const last = url.searchParams.get('last') ?? undefined;
  const list = () => registry.referrers(repository, digest, { signal, artifactType });
  const page = await referrersAfter(last, list(), options.maxPageSize);
  // When `last` is gone since, all are listed again rather than none of those that came after it.
  const { manifests, more } = page.found ? page : await referrersAfter(undefined, list(), options.maxPageSize);
  const filtered = artifactType === undefined ? {} : { 'oci-filters-applied': 'artifactType' };
  const link = more ? nextLink(url, { last: manifests.at(-1)?.digest ?? '' }) : {};
  const index = { schemaVersion: 2, mediaType: mediaTypes.imageIndex, manifests };
  respondJson(exchange, 200, index, { 'content-type': mediaTypes.imageIndex, ...filtered, ...link });
}

async function referrersAfter(last: string | undefined, list: AsyncIterable<Descriptor>, maxItems: number) {
  const manifests: Descriptor[] = [];
  let bytes = 0;
  let found = last === undefined;
  for await (const referrer of list) {
    if (!found) {
      found = referrer.digest === last;
      continue;
    }
    bytes += Buffer.byteLength(JSON.stringify(referrer));
    if (manifests.length === maxItems || (bytes > maxReferrersBytes && manifests.length > 0))
      return { manifests, found, more: true };
    manifests.push(referrer);
  }
  return { manifests, found, more: false };
}

async function namePage(
  exchange: Exchange,
  list: (options: ListOptions) => AsyncIterable<string>,
): Promise<{ page: string[]; link: Record<string, string> }> {
  checkIsGet(exchange);
  const { url, signal, options } = exchange;
  const wanted = url.searchParams.get('n');
  if (wanted !== null && !/^\d{1,9}$/.test(wanted))
    throw new RegistryError('PAGINATION_NUMBER_INVALID', `n is not a number: ${JSON.stringify(wanted.slice(0, 50))}`);
  const limit = Math.min(wanted === null ? Number.POSITIVE_INFINITY : Number(wanted), options.maxPageSize);
  const page: string[] = [];
  let more = false;
  for await (const name of list({ signal, startAfter: url.searchParams.get('last') ?? undefined })) {
    more = page.length >= limit;
    if (more) break;
    page.push(name);
  }
  const last = page.at(-1);
  return { page, link: more && last !== undefined ? nextLink(url, { n: String(limit), last }) : {} };
}

function nextLink(url: URL, query: Readonly<Record<string, string>>): Record<string, string> {
  const next = new URL(url);
  for (const [name, value] of Object.entries(query)) next.searchParams.set(name, value);
  return { link: `<${next.pathname}${next.search}>; rel="next"` };
}

function checkIsGet(exchange: Exchange): void {
  if (exchange.request.method !== 'GET' && exchange.request.method !== 'HEAD') methodNotAllowed(exchange);
}
