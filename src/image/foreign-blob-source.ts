import type { BlobSource, SourceOptions } from '../layer/blob-source.ts';
import { errorCode } from '../layer/errors.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import type { BlobReader } from '../registry/registry.ts';
import { ImageError } from './errors.ts';

/**
 * A layer that a registry need not have: asked there first, then at the descriptor's `urls` (OCI image spec, descriptor.md).
 * Those are anywhere, so they get no credentials, and only https.
 */
export function foreignBlobSource(registry: BlobSource, descriptor: Descriptor): BlobSource {
  return {
    name: registry.name,
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
    const { request } = await import('undici');
    const headers = range === undefined ? {} : { range: `bytes=${range.start}-${range.end - 1}` };
    const answer = await request(url, { headers, signal: options?.signal ?? null });
    const length = Number(answer.headers['content-length']);
    const wanted = range === undefined ? descriptor.size : range.end - range.start;
    if (answer.statusCode === (range === undefined ? 200 : 206) && length === wanted) {
      return { descriptor, body: answer.body, close: () => answer.body.destroy() };
    }
    answer.body.destroy();
    failures.push(`${new URL(url).host} answered ${answer.statusCode} with ${length} bytes`);
  }
  throw new ImageError(
    'ERR_IMAGE_LAYER',
    `layer ${descriptor.digest} is not in the registry, nor at its urls: ${failures.join('; ')}`,
  );
}
