// GET, HEAD, PUT and DELETE of a manifest, by tag or by digest.
import type { Descriptor } from '../../oci/descriptor.ts';
import { baseMediaType } from '../../oci/media-type.ts';
import { checkDigest, checkTag } from '../names.ts';
import { referrerOf } from '../referrer-of.ts';
import { RegistryError } from '../errors.ts';
import { entityTag, isUnchanged } from './conditions.ts';
import { methodNotAllowed, readBody, respond } from './exchange.ts';
import type { Exchange } from './exchange.ts';

/** One request gives a manifest at most this many tags. */
const maxTags = 100;

export async function handleManifest(exchange: Exchange, repository: string, name: string): Promise<void> {
  const { registry, request, signal } = exchange;
  // A tag has no colon, so whatever has one is meant to be a digest.
  const isDigestName = name.includes(':');
  const digest = isDigestName ? checkDigest(name) : undefined;
  const tag = isDigestName ? '' : checkTag(name);
  switch (request.method) {
    case 'HEAD': {
      const descriptor =
        digest === undefined
          ? await registry.resolveTag(repository, tag, { signal })
          : await registry.resolveManifest(repository, digest, { signal });
      answerManifest(exchange, descriptor);
      return;
    }
    case 'GET': {
      const { descriptor, bytes } =
        digest === undefined
          ? await registry.getTag(repository, tag, { signal })
          : await registry.getManifest(repository, digest, { signal });
      answerManifest(exchange, descriptor, bytes);
      return;
    }
    case 'PUT':
      await putManifest(exchange, repository, name);
      return;
    case 'DELETE':
      await (digest === undefined
        ? registry.deleteTag(repository, tag, { signal })
        : registry.deleteManifest(repository, digest, { signal }));
      respond(exchange, 202);
      return;
    default:
      methodNotAllowed(exchange);
  }
}

function answerManifest(exchange: Exchange, descriptor: Descriptor, bytes?: Uint8Array): void {
  const { mediaType, digest, size } = descriptor;
  const headers = { 'content-type': mediaType, 'docker-content-digest': digest, etag: entityTag(digest) };
  if (isUnchanged(exchange.request.headers, digest)) respond(exchange, 304, headers);
  else respond(exchange, 200, { ...headers, 'content-length': size }, bytes);
}

async function putManifest(exchange: Exchange, repository: string, name: string): Promise<void> {
  const { registry, request, signal, options, url } = exchange;
  const digest = name.includes(':') ? checkDigest(name) : undefined;
  const extraTags = [...new Set(url.searchParams.getAll('tag').map(checkTag))];
  if (extraTags.length > maxTags)
    throw new RegistryError('TAG_INVALID', `${extraTags.length} tags in one request, more than the ${maxTags} allowed`);
  const mediaType = baseMediaType(request.headers['content-type'] ?? '');
  if (mediaType === '') throw new RegistryError('MANIFEST_INVALID', 'the manifest was sent without a content-type');
  const announced = Number(request.headers['content-length'] ?? options.maxManifestBytes);
  using _memory = await exchange.manifestBytes.acquire(Math.min(announced, options.maxManifestBytes), { signal });
  const bytes = await readBody(exchange, options.maxManifestBytes);
  const push = (tag: string | undefined) =>
    registry.pushManifest(repository, tag, bytes, mediaType, { signal, digest });
  const [firstTag, ...otherTags] = digest === undefined ? [name, ...extraTags] : extraTags;
  const descriptor = await push(firstTag);
  for (const tag of otherTags) await push(tag);
  const subject = options.referrersApi ? referrerOf(bytes, descriptor)?.subject : undefined;
  respond(exchange, 201, {
    location: `/v2/${repository}/manifests/${descriptor.digest}`,
    'docker-content-digest': descriptor.digest,
    ...(subject === undefined ? {} : { 'oci-subject': subject }),
    ...(extraTags.length === 0 ? {} : { 'oci-tag': extraTags }),
  });
}
