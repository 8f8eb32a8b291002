// GET, HEAD and DELETE of a blob.
import type { Descriptor } from '../../oci/descriptor.ts';
import { RegistryError } from '../errors.ts';
import { checkDigest } from '../names.ts';
import { entityTag, isUnchanged, rangeFor } from './conditions.ts';
import { methodNotAllowed, respond, respondStream } from './exchange.ts';
import type { Exchange } from './exchange.ts';
import { parseRangeHeader } from './range-header.ts';

export async function handleBlob(exchange: Exchange, repository: string, digestText: string): Promise<void> {
  const { registry, request, signal } = exchange;
  const digest = checkDigest(digestText);
  switch (request.method) {
    case 'GET':
    case 'HEAD':
      await answerBlob(exchange, repository, await registry.resolveBlob(repository, digest, { signal }));
      return;
    case 'DELETE':
      await registry.deleteBlob(repository, digest, { signal });
      respond(exchange, 202);
      return;
    default:
      methodNotAllowed(exchange);
  }
}

async function answerBlob(exchange: Exchange, repository: string, descriptor: Descriptor): Promise<void> {
  const { registry, request, signal } = exchange;
  const { digest, size } = descriptor;
  const headers = {
    'content-type': 'application/octet-stream',
    'docker-content-digest': digest,
    'accept-ranges': 'bytes',
    etag: entityTag(digest),
  };
  if (isUnchanged(request.headers, digest)) {
    respond(exchange, 304, headers);
    return;
  }
  if (request.method === 'HEAD') {
    respond(exchange, 200, { ...headers, 'content-length': size });
    return;
  }
  const elsewhere = exchange.options.redirects ? descriptor.urls?.find((url) => /^https?:\/\//i.test(url)) : undefined;
  if (elsewhere !== undefined) {
    respond(exchange, 307, { location: new URL(elsewhere).href, 'docker-content-digest': digest });
    return;
  }
  const range = parseRangeHeader(rangeFor(request.headers, digest), size);
  if (range === 'unsatisfiable') {
    exchange.response.setHeader('content-range', `bytes */${size}`);
    throw new RegistryError('RANGE_INVALID', `blob ${digest} has ${size} bytes`);
  }
  if (range === 'whole') {
    // The client hashes what it gets; hashing it here too would halve what a server can send.
    const { body } = await registry.getBlob(repository, digest, { signal, verify: false });
    await respondStream(exchange, 200, headers, size, body);
    return;
  }
  const { start, end } = range;
  const { body } = await registry.getBlobRange(repository, digest, start, end, { signal });
  const part = { 'content-range': `bytes ${start}-${end - 1}/${size}` };
  await respondStream(exchange, 206, { ...headers, ...part }, end - start, body);
}
