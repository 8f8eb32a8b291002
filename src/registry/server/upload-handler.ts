// Uploads (distribution spec, "Pushing blobs"). The session's id is the store's own, so that the server keeps no state and a session
// survives its restart.
import { isDigest } from '../../oci/digest.ts';
import type { Digest } from '../../oci/digest.ts';
import { RegistryError, hasCode } from '../errors.ts';
import { checkDigest, checkRepository } from '../names.ts';
import type { BlobWriter } from '../interface.ts';
import { methodNotAllowed, received, respond } from './exchange.ts';
import type { Exchange } from './exchange.ts';

/** Bytes [start, end) of the blob. */
interface Chunk {
  readonly start: number;
  readonly end: number;
}

/** POST: a mount, a whole blob in one request, or a new session. */
export async function handleUploads(exchange: Exchange, repository: string): Promise<void> {
  const { registry, request, url, signal } = exchange;
  if (request.method !== 'POST') methodNotAllowed(exchange);
  const { searchParams } = url;
  const mount = searchParams.get('mount');
  const digestText = searchParams.get('digest');
  const algorithm = searchParams.get('digest-algorithm');
  if (algorithm !== null && algorithm !== 'sha256' && algorithm !== 'sha512')
    throw new RegistryError('DIGEST_INVALID', `no such digest algorithm: ${JSON.stringify(algorithm.slice(0, 50))}`);
  if (mount !== null && isDigest(mount) && (await mounted(exchange, repository, mount, searchParams.get('from')))) {
    respondCreated(exchange, repository, mount);
    return;
  }
  const digest = digestText === null ? undefined : checkDigest(digestText);
  const writer = await registry.pushBlobChunked(repository, undefined, { signal });
  if (digest !== undefined) {
    try {
      await receive(exchange, writer);
      await writer.commit(digest, { signal });
    } catch (error) {
      // Nobody was told where it could go on.
      await writer.cancel();
      throw error;
    }
    respondCreated(exchange, repository, digest);
    return;
  }
  await writer.close();
  respond(exchange, 202, { ...sessionHeaders(repository, writer), 'oci-chunk-min-length': 1 });
}

/** GET, PATCH, PUT and DELETE of a session. */
export async function handleUpload(exchange: Exchange, repository: string, encodedId: string): Promise<void> {
  const { request, url, methods } = exchange;
  const { method = '' } = request;
  if (!methods.includes(method)) methodNotAllowed(exchange);
  const id = Buffer.from(encodedId, 'base64url').toString('utf8');
  // Judged before anything is stored: a request without a digest must not change the session.
  const digest = method === 'PUT' ? checkDigest(url.searchParams.get('digest') ?? '') : undefined;
  const chunk = method === 'PATCH' || method === 'PUT' ? announcedChunk(exchange) : undefined;
  try {
    await proceed(exchange, repository, id, chunk, digest);
  } catch (error) {
    if (hasCode(error, 'RANGE_INVALID')) await tellWhereItStands(exchange, repository, id);
    throw error;
  }
}

async function proceed(
  exchange: Exchange,
  repository: string,
  id: string,
  chunk: Chunk | undefined,
  digest: Digest | undefined,
): Promise<void> {
  const { registry, request, signal } = exchange;
  const { method } = request;
  const writer = await registry.resumeBlob(repository, id, chunk?.start, { signal });
  if (method === 'DELETE') {
    await writer.cancel();
    respond(exchange, 204);
    return;
  }
  if (method !== 'GET') await receive(exchange, writer, chunk);
  if (digest !== undefined) {
    await writer.commit(digest, { signal });
    respondCreated(exchange, repository, digest);
    return;
  }
  await writer.close();
  respond(exchange, method === 'GET' ? 204 : 202, sessionHeaders(repository, writer));
}

/** A 416 says where the next chunk must begin. */
async function tellWhereItStands(exchange: Exchange, repository: string, id: string): Promise<void> {
  const writer = await exchange.registry.resumeBlob(repository, id, undefined, { signal: exchange.signal });
  await writer.close();
  for (const [name, value] of Object.entries(sessionHeaders(repository, writer)))
    exchange.response.setHeader(name, value);
}

async function mounted(exchange: Exchange, repository: string, digest: Digest, from: string | null): Promise<boolean> {
  // Without a source one would have to know which repositories this client may read.
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

/** What arrived before the client went away stays: it may come back for the rest. Errors: SIZE_INVALID. */
async function receive(exchange: Exchange, writer: BlobWriter, chunk?: Chunk): Promise<void> {
  const { signal } = exchange;
  try {
    for await (const bytes of received(exchange)) {
      if (chunk !== undefined && writer.size + bytes.byteLength > chunk.end) throw wrongSize(chunk);
      await writer.write(bytes, { signal });
    }
    if (chunk !== undefined && writer.size !== chunk.end) throw wrongSize(chunk);
  } catch (error) {
    await writer.close();
    throw error;
  }
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
function announcedChunk(exchange: Exchange): Chunk | undefined {
  const { headers } = exchange.request;
  const header = headers['content-range'];
  // An empty body cannot be said as a range; some clients say `0-0` or `5-4`.
  if (header === undefined || headers['content-length'] === '0') return undefined;
  const match = /^(?:bytes[ =])?(\d{1,15})-(\d{1,15})(?:\/(?:\d+|\*))?$/.exec(header);
  if (match === null)
    throw new RegistryError('BLOB_UPLOAD_INVALID', `not a content-range: ${JSON.stringify(header.slice(0, 100))}`);
  const chunk = { start: Number(match[1]), end: Number(match[2]) + 1 };
  const announced = headers['content-length'];
  if (chunk.end <= chunk.start || (announced !== undefined && Number(announced) !== chunk.end - chunk.start))
    throw wrongSize(chunk);
  return chunk;
}

function wrongSize({ start, end }: Chunk): RegistryError {
  return new RegistryError(
    'SIZE_INVALID',
    `the request does not have the bytes of its content-range ${start}-${end - 1}`,
  );
}
