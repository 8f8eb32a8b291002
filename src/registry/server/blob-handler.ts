// GET, HEAD and DELETE of a blob.
import { RegistryError } from '../errors.ts';
import { checkDigest } from '../names.ts';
import { methodNotAllowed, respond, respondStream } from './exchange.ts';
import type { Exchange } from './exchange.ts';
import { parseRangeHeader } from './range-header.ts';

export async function handleBlob(exchange: Exchange, repository: string, digestText: string): Promise<void> {
  const { registry, request, signal } = exchange;
  const digest = checkDigest(digestText);
  if (request.method === 'DELETE') {
    await registry.deleteBlob(repository, digest, { signal });
    respond(exchange, 202);
    return;
  }
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    methodNotAllowed(exchange, 'GET', 'HEAD', 'DELETE');
    return;
  }
  const { size } = await registry.resolveBlob(repository, digest, { signal });
  const headers = {
    'content-type': 'application/octet-stream',
    'docker-content-digest': digest,
    'accept-ranges': 'bytes',
    etag: `"${digest}"`,
  };
  if (request.method === 'HEAD') {
    respond(exchange, 200, { ...headers, 'content-length': size });
    return;
  }
  const range = parseRangeHeader(request.headers.range, size);
  if (range === 'unsatisfiable') {
    exchange.response.setHeader('content-range', `bytes */${size}`);
    throw new RegistryError('RANGE_INVALID', `blob ${digest} has ${size} bytes`);
  }
  const whole = range === 'whole' ? await registry.getBlob(repository, digest, { signal }) : undefined;
  if (range === 'whole' && whole !== undefined) {
    await respondStream(exchange, 200, { ...headers, 'content-length': size }, whole.body);
    return;
  }
  const { start, end } = range as { start: number; end: number };
  const part = await registry.getBlobRange(repository, digest, start, end, { signal });
  const partHeaders = {
    ...headers,
    'content-length': end - start,
    'content-range': `bytes ${start}-${end - 1}/${size}`,
  };
  await respondStream(exchange, 206, partHeaders, part.body);
}
