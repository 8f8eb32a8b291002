import type { BlobSource, SourceOptions } from '../layer/blob-source.ts';
import { errorCode, errorMessage } from '../layer/errors.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { formatRange, parseContentRange } from '../registry/client/range.ts';
import type { BlobReader } from '../registry/registry.ts';
import { ImageError } from './errors.ts';

/**
 * A layer that a registry need not have: asked there first, then at the descriptor's `urls` (OCI image spec, descriptor.md).
 * Those are anywhere, so they get no credentials, and only https.
 */
export function foreignBlobSource(registry: BlobSource, descriptor: Descriptor): BlobSource {
  return {
    name: registry.name,
    host: registry.host,
    readRange: (start, end, options) =>
      elsewhere(
        () => registry.readRange(start, end, options),
        () => fetchFirst(descriptor, options, { start, end: Math.min(end, descriptor.size) }),
      ),
    readAll: (options) =>
      elsewhere(
        () => registry.readAll(options),
        () => fetchFirst(descriptor, options, undefined),
      ),
    ...(registry.blob === undefined ? {} : { blob: registry.blob.bind(registry) }),
  };
}

async function elsewhere(first: () => Promise<BlobReader>, second: () => Promise<BlobReader>): Promise<BlobReader> {
  try {
    return await first();
  } catch (error) {
    if (errorCode(error) !== 'BLOB_UNKNOWN') throw error;
    return await second();
  }
}

async function fetchFirst(
  descriptor: Descriptor,
  options: SourceOptions | undefined,
  range: { start: number; end: number } | undefined,
): Promise<BlobReader> {
  const failures: string[] = [];
  for (const url of descriptor.urls ?? []) {
    if (!URL.canParse(url) || new URL(url).protocol !== 'https:') {
      failures.push(`${url.slice(0, 200)} is not https`);
      continue;
    }
    try {
      return await fetchOne(new URL(url), descriptor, options, range);
    } catch (error) {
      options?.signal?.throwIfAborted();
      failures.push(errorMessage(error));
    }
  }
  throw new ImageError(
    'ERR_IMAGE_LAYER',
    `layer ${descriptor.digest} is not in the registry, nor at its urls: ${failures.join('; ')}`,
  );
}

async function fetchOne(
  url: URL,
  descriptor: Descriptor,
  options: SourceOptions | undefined,
  range: { start: number; end: number } | undefined,
): Promise<BlobReader> {
  const { request } = await import('undici');
  const headers = range === undefined ? {} : { range: formatRange(range.start, range.end) };
  const { statusCode, headers: told, body } = await request(url, { headers, signal: options?.signal ?? null });
  // The HTTP client's body fails when it is ended early, whether or not somebody reads it.
  body.on('error', () => {});
  const length = Number(told['content-length']);
  const got = parseContentRange(told['content-range']?.toString());
  const isWhole = range === undefined && statusCode === 200 && length === descriptor.size;
  const isRange = statusCode === 206 && got?.start === range?.start && got?.end === range?.end;
  if (isWhole || (range !== undefined && isRange)) return { descriptor, body, close: () => void body.destroy() };
  body.destroy();
  throw new ImageError('ERR_IMAGE_LAYER', `${url.host} answered ${statusCode} with ${length} bytes`);
}
