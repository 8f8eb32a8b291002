import { PassThrough } from 'node:stream';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Descriptor } from '../../oci/descriptor.ts';
import type { ProgressSink } from '../../observe/progress.ts';
import { RegistryError, hasCode } from '../errors.ts';
import type { CallOptions, Reader, Writer } from '../interface.ts';

export interface BlobPlaces {
  readonly from: { readonly registry: Reader; readonly repository: string };
  readonly to: { readonly registry: Reader & Writer; readonly repository: string };
}

export interface BlobCopyOptions extends CallOptions {
  readonly onProgress?: ProgressSink | undefined;
}

export type BlobOutcome = 'copied' | 'mounted' | 'existing';

/** Brings one blob to the target in the cheapest way there is. Errors: those of reading and pushing; DIGEST_INVALID. */
export async function copyBlob(
  places: BlobPlaces,
  descriptor: Descriptor,
  options: BlobCopyOptions = {},
): Promise<BlobOutcome> {
  const { to } = places;
  if (await has(to, descriptor, options)) return 'existing';
  if (await mount(places, descriptor, options)) return 'mounted';
  let source: Readable | undefined;
  const open = () => {
    source?.destroy();
    source = sourceOf(places, descriptor, options);
    return source;
  };
  try {
    await to.registry.pushBlob(to.repository, descriptor, open, options);
  } finally {
    source?.destroy();
  }
  return 'copied';
}

async function has(to: BlobPlaces['to'], { digest, size }: Descriptor, options: CallOptions): Promise<boolean> {
  try {
    return (await to.registry.resolveBlob(to.repository, digest, options)).size === size;
  } catch (error) {
    if (hasCode(error, 'BLOB_UNKNOWN', 'NAME_UNKNOWN', 'RESPONSE_INVALID', 'UNSUPPORTED')) return false;
    throw error;
  }
}

async function mount({ from, to }: BlobPlaces, { digest }: Descriptor, options: CallOptions): Promise<boolean> {
  if ((from.registry as unknown) !== to.registry || from.repository === to.repository) return false;
  try {
    await to.registry.mountBlob(from.repository, to.repository, digest, options);
    return true;
  } catch (error) {
    options.signal?.throwIfAborted();
    // Registries refuse in all sorts of ways what they need not be able to do. Copying it may still be allowed.
    if (error instanceof RegistryError) return false;
    throw error;
  }
}

/** Opens the source, anew for every attempt; it is given up as soon as nobody reads. */
function sourceOf({ from }: BlobPlaces, { digest, size }: Descriptor, options: BlobCopyOptions): Readable {
  // Whoever reads it sees its error; nobody may be reading yet.
  const stream = new PassThrough().on('error', () => {});
  const gone = new AbortController();
  stream.once('close', () => gone.abort(new DOMException('nobody reads the blob', 'AbortError')));
  const signal = options.signal === undefined ? gone.signal : AbortSignal.any([options.signal, gone.signal]);
  const what = `blob ${digest}`;
  let done = 0;
  async function* counted(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const chunk of chunks) {
      done += chunk.byteLength;
      options.onProgress?.({ what, done, total: size });
      yield chunk;
    }
  }
  const fill = async () => {
    const reader = await from.registry.getBlob(from.repository, digest, { signal });
    try {
      await pipeline(reader.body, counted, stream, { signal });
    } finally {
      reader.close();
    }
  };
  fill().catch((error: unknown) => stream.destroy(error instanceof Error ? error : new Error(String(error))));
  return stream;
}
