// GET, HEAD, PUT and DELETE of a manifest, by tag or by digest.
import type { Descriptor } from '../../oci/descriptor.ts';
import { baseMediaType } from '../../oci/media-type.ts';
import { checkDigest, checkTag } from '../names.ts';
import { referrerOf } from '../referrer-of.ts';
import { RegistryError } from '../errors.ts';
import { methodNotAllowed, readBody, respond } from './exchange.ts';
import type { Exchange } from './exchange.ts';

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
      respond(exchange, 200, { ...contentHeaders(descriptor), 'content-length': descriptor.size });
      return;
    }
    case 'GET': {
      const { descriptor, bytes } =
        digest === undefined
          ? await registry.getTag(repository, tag, { signal })
          : await registry.getManifest(repository, digest, { signal });
      respond(exchange, 200, contentHeaders(descriptor), bytes);
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
      methodNotAllowed(exchange, 'GET', 'HEAD', 'PUT', 'DELETE');
  }
}

async function putManifest(exchange: Exchange, repository: string, name: string): Promise<void> {
  const { registry, request, signal, options } = exchange;
  const digest = name.includes(':') ? checkDigest(name) : undefined;
  const bytes = await readBody(exchange, options.maxManifestBytes);
  const mediaType = baseMediaType(request.headers['content-type'] ?? '');
  if (mediaType === '') throw new RegistryError('MANIFEST_INVALID', 'the manifest was sent without a content-type');
  const descriptor = await registry.pushManifest(
    repository,
    digest === undefined ? name : undefined,
    bytes,
    mediaType,
    { signal, digest },
  );
  const subject = options.referrersApi ? referrerOf(bytes, descriptor)?.subject : undefined;
  respond(exchange, 201, {
    location: `/v2/${repository}/manifests/${descriptor.digest}`,
    'docker-content-digest': descriptor.digest,
    ...(subject === undefined ? {} : { 'oci-subject': subject }),
  });
}

function contentHeaders(descriptor: Descriptor): Record<string, string> {
  const { mediaType, digest } = descriptor;
  return { 'content-type': mediaType, 'docker-content-digest': digest, etag: `"${digest}"` };
}
