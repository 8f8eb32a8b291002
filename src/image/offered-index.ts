// Which of an image's indexes one of its layers is opened by.
import type { OfferedIndex, RemoteIndex } from '../layer/layer-store.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { layerType } from '../oci/media-type.ts';
import { hasCode } from '../registry/errors.ts';
import { humanBytes } from '../util/human-bytes.ts';
import type { ContentFetcher } from './content.ts';
import { readSmallBlob } from './content.ts';
import { ImageError } from './errors.ts';
import { indexKind } from './found-index.ts';
import type { FoundIndex } from './found-index.ts';
import type { Discovery } from './index-finder.ts';
import { defaultMinLayerSize } from './index-layers.ts';
import type { Origin } from './origin.ts';
import { isUnknown } from './registry-errors.ts';

interface OfferDeps {
  readonly content: ContentFetcher;
}

/** A zTOC of a huge layer with small spans, or a table of millions of files; more than any real one. */
export const maxIndexBytes = 256 << 20;

/**
 * Bytes of a layer that a peel index leaves out, from which on the image's other indexes are worth a look: what such an index cannot describe, SOCI
 * can. Below, it was left out for its size, and SOCI's are sparser still.
 */
const worthAnother = 10 << 20;

/** What the image offers for the layer once `attempt` others turned out unusable. Errors: the signal's reason. */
export async function offeredIndex(
  deps: OfferDeps,
  origin: Origin,
  descriptor: Descriptor,
  discovery: Discovery,
  attempt: number,
): Promise<OfferedIndex> {
  let reason = attempt === 0 ? discovery.reason : 'no other index has it';
  let failed = 0;
  for (let position = 0; ; position += 1) {
    const found = await discovery.candidate(position);
    if (found === undefined) return { index: undefined, reason };
    const index = remoteIndex(deps, origin, descriptor, found);
    if (index !== undefined && failed === attempt) return { index, reason: '' };
    if (index !== undefined) failed += 1;
    else if (position === 0) {
      if (attempt === 0) reason = leftOut(descriptor, found);
      if (found.format !== 'peel' || descriptor.size < worthAnother) return { index: undefined, reason };
    }
  }
}

function leftOut(descriptor: Descriptor, found: FoundIndex): string {
  if (isUnreadable(descriptor, found)) return 'no index: media type is zstd';
  const { size, mediaType } = descriptor;
  const said = `index ${found.digest} leaves it out`;
  if (size < defaultMinLayerSize[indexKind(found.format)])
    return `${said} (${humanBytes(size)}, likely below its minimum)`;
  return layerType(mediaType)?.compression === 'zstd' ? `${said} (zstd, likely in one frame)` : said;
}

/** A zTOC says nothing of zstd. */
function isUnreadable({ mediaType }: Descriptor, { format }: FoundIndex): boolean {
  return format !== 'peel' && layerType(mediaType)?.compression === 'zstd';
}

/** Undefined when the index has nothing of the layer. */
function remoteIndex(
  { content }: OfferDeps,
  origin: Origin,
  descriptor: Descriptor,
  found: FoundIndex,
): RemoteIndex | undefined {
  if (isUnreadable(descriptor, found)) return undefined;
  const { digest, source } = found;
  // One made here and not pushed is in the content store.
  const loadBlob = async (blob: Descriptor, signal: AbortSignal | undefined) =>
    (await content.local(blob.digest))?.bytes ?? (await readSmallBlob(origin, blob, maxIndexBytes, { signal }));
  if (found.format !== 'peel') {
    const entry = found.index.layers.find(({ layer }) => layer === descriptor.digest);
    if (entry === undefined) return undefined;
    const { ztoc } = entry;
    return { format: found.format, digest, source, ztoc, load: ({ signal }) => loadBlob(ztoc, signal) };
  }
  const entry = found.index.layers.find(({ layer }) => layer === descriptor.digest);
  if (entry === undefined) return undefined;
  const { table, windows } = entry;
  return {
    format: 'peel',
    digest,
    source,
    table,
    windows,
    repository: origin.name,
    load: ({ signal }) => loadBlob(table, signal),
    findWindows: async ({ signal }) => {
      if (windows === undefined) return undefined;
      const local = await content.local(windows.digest);
      if (local === undefined) await expectBlob(origin, windows, signal);
      return local?.bytes;
    },
  };
}

/** Errors: ERR_IMAGE_CONTENT when the registry has not got it, or another size of it; RegistryError when it could not be asked. */
async function expectBlob(
  origin: Origin,
  { digest, size }: Descriptor,
  signal: AbortSignal | undefined,
): Promise<void> {
  let there: Descriptor;
  try {
    there = await origin.registry.resolveBlob(origin.repository, digest, { signal });
  } catch (error) {
    // It does not answer such questions, as registries without HEAD or without a length do: the first window will tell.
    if (hasCode(error, 'RESPONSE_INVALID', 'UNSUPPORTED')) return;
    if (!isUnknown(error)) throw error;
    throw new ImageError('ERR_IMAGE_CONTENT', `its windows ${digest} are not in ${origin.name}`);
  }
  if (there.size !== size)
    throw new ImageError(
      'ERR_IMAGE_CONTENT',
      `its windows ${digest} have ${there.size} bytes in ${origin.name}, not ${size}`,
    );
}
