// The steps of the spec's workflows, each checked as it is made.
import { expect } from 'vitest';
import type { Digest, DigestAlgorithm } from '../../../src/oci/digest.ts';
import { content, digestOf } from '../../support/registry-content.ts';
import type { Answer, Ask, Wire } from './wire.ts';

export interface Blob {
  readonly bytes: Buffer;
  readonly digest: Digest;
}

export const octets = { 'content-type': 'application/octet-stream' };

export function blobOf(value: number | string, algorithm: DigestAlgorithm = 'sha256'): Blob {
  const { bytes } = content(value);
  return { bytes, digest: digestOf(bytes, algorithm) };
}

export function blobPath(repository: string, digest: string): string {
  return `/v2/${repository}/blobs/${digest}`;
}

export function manifestPath(repository: string, name: string): string {
  return `/v2/${repository}/manifests/${name}`;
}

export function location(answer: Answer): string {
  expect(answer.headers.location, 'location').toBeTruthy();
  return answer.headers.location ?? '';
}

/** The session's own query is kept. */
export function withDigest(target: string, digest: Digest): string {
  return `${target}${target.includes('?') ? '&' : '?'}digest=${digest}`;
}

/** POST: where the upload goes on. Its algorithm is said when it is not sha256. */
export async function startUpload(
  wire: Wire,
  repository: string,
  algorithm: DigestAlgorithm = 'sha256',
): Promise<string> {
  return location(await opened(wire, repository, algorithm));
}

export async function opened(wire: Wire, repository: string, algorithm: DigestAlgorithm = 'sha256'): Promise<Answer> {
  const query = algorithm === 'sha256' ? '' : `?digest-algorithm=${algorithm}`;
  const answer = await wire.ask('POST', `/v2/${repository}/blobs/uploads/${query}`);
  expect(answer.status, 'status of the POST').toBe(202);
  return answer;
}

/** Bytes [start, end) of `blob` as a chunk. */
export function sendChunk(
  wire: Wire,
  target: string,
  blob: Blob,
  start: number,
  end: number,
  method: 'PATCH' | 'PUT' = 'PATCH',
): Promise<Answer> {
  const range = { 'content-range': `${start}-${end - 1}` };
  return wire.ask(method, target, { headers: { ...octets, ...range }, body: blob.bytes.subarray(start, end) });
}

/** POST and PUT. */
export async function pushBlob(wire: Wire, repository: string, blob: Blob): Promise<Answer> {
  const algorithm = blob.digest.startsWith('sha512:') ? 'sha512' : 'sha256';
  const target = withDigest(await startUpload(wire, repository, algorithm), blob.digest);
  const answer = await wire.ask('PUT', target, { headers: octets, body: blob.bytes });
  expect(answer.status, 'status of the PUT').toBe(201);
  return answer;
}

/** 201 with a Location whose GET gives exactly the blob. */
export async function expectStored(wire: Wire, answer: Answer, blob: Blob): Promise<void> {
  expect(answer.status, 'status of the end').toBe(201);
  const told = answer.headers['docker-content-digest'];
  if (told !== undefined) expect(told, 'docker-content-digest').toBe(blob.digest);
  const got = await wire.ask('GET', location(answer));
  expect(got.status, 'status of the GET').toBe(200);
  expect(got.bytes.equals(blob.bytes), 'the bytes that were pushed').toBe(true);
}

export function putManifest(
  wire: Wire,
  repository: string,
  name: string,
  bytes: Uint8Array,
  mediaType: string,
  ask: Ask = {},
): Promise<Answer> {
  return wire.ask('PUT', manifestPath(repository, name), {
    ...ask,
    headers: { 'content-type': mediaType },
    body: bytes,
  });
}

/** 202, and gone at once. */
export async function expectDeleted(wire: Wire, target: string): Promise<void> {
  expect((await wire.ask('DELETE', target)).status, 'status of the DELETE').toBe(202);
  expect((await wire.ask('HEAD', target)).status, 'status of the HEAD after it').toBe(404);
}

/** 405 with an Allow that has other methods (RFC 9110 section 15.5.6). */
export function expectNotAllowed(answer: Answer, method: string): void {
  expect(answer.status).toBe(405);
  const allowed = (answer.headers.allow ?? '').split(/, */);
  expect(allowed).not.toContain(method);
  expect(allowed.join('')).not.toBe('');
}
