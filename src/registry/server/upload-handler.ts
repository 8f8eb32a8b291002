// Uploads (distribution spec, "Pushing blobs"). The session's id is the store's own, so that the server keeps no state and a session
// survives its restart.
import type { Digest } from '../../oci/digest.ts';
import { RegistryError, hasCode } from '../errors.ts';
import { checkDigest, checkRepository } from '../names.ts';
import type { BlobWriter } from '../interface.ts';
import { methodNotAllowed, respond } from './exchange.ts';
import type { Exchange } from './exchange.ts';

/** POST: a mount, a whole blob in one request, or a new session. */
export async function handleUploads(exchange: Exchange, repository: string): Promise<void> {
  const { registry, request, url, signal } = exchange;
  if (request.method !== 'POST') {
    methodNotAllowed(exchange, 'POST');
    return;
  }
  const { searchParams } = url;
  const mount = searchParams.get('mount');
  const digestText = searchParams.get('digest');
  if (mount !== null && (await mounted(exchange, repository, checkDigest(mount), searchParams.get('from')))) {
    respondCreated(exchange, repository, checkDigest(mount));
    return;
  }
  const digest = digestText === null ? undefined : checkDigest(digestText);
  const writer = await registry.pushBlobChunked(repository, undefined, { signal });
  if (digest !== undefined) {
    await receive(exchange, writer);
    await commit(exchange, repository, writer, digest);
    return;
  }
  await writer.close();
  respond(exchange, 202, { ...sessionHeaders(repository, writer), 'oci-chunk-min-length': 1 });
}

/** GET, PATCH, PUT and DELETE of a session. */
export async function handleUpload(exchange: Exchange, repository: string, encodedId: string): Promise<void> {
  const { registry, request, url, signal } = exchange;
  const id = Buffer.from(encodedId, 'base64url').toString('utf8');
  const digestText = url.searchParams.get('digest');
  const { method } = request;
  if (method !== 'GET' && method !== 'PATCH' && method !== 'PUT' && method !== 'DELETE') {
    methodNotAllowed(exchange, 'GET', 'PATCH', 'PUT', 'DELETE');
    return;
  }
  // Judged before anything is stored: a request without a digest must not change the session.
  const digest = method === 'PUT' ? checkDigest(digestText ?? '') : undefined;
  const offset = method === 'PATCH' || method === 'PUT' ? chunkStart(exchange) : undefined;
  const writer = await registry.resumeBlob(repository, id, offset, { signal });
  if (method === 'DELETE') {
    await writer.cancel();
    respond(exchange, 204);
    return;
  }
  if (method !== 'GET') await receive(exchange, writer);
  if (digest !== undefined) {
    await commit(exchange, repository, writer, digest);
    return;
  }
  await writer.close();
  respond(exchange, method === 'GET' ? 204 : 202, sessionHeaders(repository, writer));
}

async function mounted(exchange: Exchange, repository: string, digest: Digest, from: string | null): Promise<boolean> {
  if (from === null) return false;
  try {
    await exchange.registry.mountBlob(checkRepository(from), repository, digest, { signal: exchange.signal });
    return true;
  } catch (error) {
    // "If a registry does not support cross-repository mounting or is unable to mount the requested blob": a session is begun.
    if (hasCode(error, 'BLOB_UNKNOWN', 'NAME_UNKNOWN', 'NAME_INVALID', 'UNSUPPORTED', 'DENIED')) return false;
    throw error;
  }
}

/** What arrived before the client went away stays: it may come back for the rest. */
async function receive(exchange: Exchange, writer: BlobWriter): Promise<void> {
  const { request, signal } = exchange;
  try {
    for await (const chunk of request as AsyncIterable<Buffer>) await writer.write(chunk, { signal });
  } catch (error) {
    await writer.close();
    throw error;
  }
}

async function commit(exchange: Exchange, repository: string, writer: BlobWriter, digest: Digest): Promise<void> {
  await writer.commit(digest, { signal: exchange.signal });
  respondCreated(exchange, repository, digest);
}

function respondCreated(exchange: Exchange, repository: string, digest: Digest): void {
  respond(exchange, 201, { location: `/v2/${repository}/blobs/${digest}`, 'docker-content-digest': digest });
}

function sessionHeaders(repository: string, writer: BlobWriter): Record<string, string> {
  const id = Buffer.from(writer.id).toString('base64url');
  return {
    location: `/v2/${repository}/blobs/uploads/${id}`,
    range: `0-${Math.max(writer.size - 1, 0)}`,
    'docker-upload-uuid': id,
  };
}

/** Undefined for a streamed body without Content-Range. Errors: BLOB_UPLOAD_INVALID, SIZE_INVALID. */
function chunkStart(exchange: Exchange): number | undefined {
  const header = exchange.request.headers['content-range'];
  if (header === undefined) return undefined;
  const match = /^(?:bytes[ =])?(\d{1,16})-(\d{1,16})(?:\/(?:\d+|\*))?$/.exec(header);
  if (match === null)
    throw new RegistryError('BLOB_UPLOAD_INVALID', `not a content-range: ${JSON.stringify(header.slice(0, 100))}`);
  const start = Number(match[1]);
  const length = Number(match[2]) + 1 - start;
  const announced = exchange.request.headers['content-length'];
  // An empty body cannot be said as a range; some clients say `0-0` or `5-4`.
  if (announced !== undefined && announced !== '0' && Number(announced) !== length) {
    throw new RegistryError(
      'SIZE_INVALID',
      `content-range ${header.slice(0, 100)} does not fit a content-length of ${announced}`,
    );
  }
  return start;
}
