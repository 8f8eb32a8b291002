// What an index says of each of its layers, from its own bytes and those of its tables.
import { readPeelIndex } from '../index/peel-index-reader.ts';
import type { PeelLayer } from '../index/peel-index.ts';
import { readPeelTable } from '../index/peel-table-reader.ts';
import { readSociIndex } from '../index/soci-index.ts';
import type { SociLayer } from '../index/soci-index.ts';
import { readZtoc } from '../index/ztoc-reader.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { readErofs } from '../tree/erofs-reader.ts';
import { treeEntries } from '../tree/tree-entries.ts';
import type { ContentFetcher } from './content.ts';
import { readSmallBlob } from './content.ts';
import { ImageError } from './errors.ts';
import type { KnownIndex } from './find-indexes.ts';
import type { IndexInfoReport, IndexLayerInfo } from './index-report.ts';
import type { Origin } from './origin.ts';

const maxBlobBytes = 256 << 20;

type Fetch = { readonly signal?: AbortSignal | undefined };
/** Undefined when the bytes are not at hand and there is nobody to ask for them. */
type Load = (descriptor: Descriptor) => Promise<Uint8Array | undefined>;

/**
 * Describes an index of either kind. What is not on this node is asked of `origin`, where there is one.
 * Errors: ERR_IMAGE_INDEX when the index itself is not on this node; IndexError; RegistryError.
 */
export async function showIndex(
  content: ContentFetcher,
  { digest, kind, image, source }: KnownIndex,
  origin: Origin | undefined,
  options: Fetch,
): Promise<IndexInfoReport> {
  const found =
    (await content.local(digest)) ??
    (origin === undefined ? undefined : await content.manifest(origin, digest, options));
  if (found === undefined)
    throw new ImageError('ERR_IMAGE_INDEX', `index ${digest} is not on this node: name the image instead`);
  const load: Load = async (descriptor) =>
    (await content.local(descriptor.digest))?.bytes ??
    (origin === undefined ? undefined : await readSmallBlob(origin, descriptor, maxBlobBytes, options));
  const head = { index: digest, image, source };
  return kind === 'peel'
    ? { ...head, ...(await peelReport(found.bytes, load)) }
    : { ...head, ...(await sociReport(found.bytes, load)) };
}

type Body = Pick<IndexInfoReport, 'format' | 'buildTool' | 'layers'>;

async function peelReport(bytes: Uint8Array, load: Load): Promise<Body> {
  const index = readPeelIndex(bytes);
  const layers: IndexLayerInfo[] = [];
  for (const layer of index.layers) layers.push(await peelLayer(layer, load));
  return { format: 'peel', buildTool: index.buildTool, layers };
}

async function peelLayer({ layer, table, windows, spanSize }: PeelLayer, load: Load): Promise<IndexLayerInfo> {
  const bytes = await load(table);
  const parsed = bytes === undefined ? undefined : readPeelTable(bytes);
  return {
    layer,
    ztoc: undefined,
    table: table.digest,
    size: table.size,
    windows: windows?.digest,
    windowsSize: windows?.size,
    spanSize,
    spans: parsed?.spans.count,
    entries: parsed === undefined ? undefined : treeEntries(readErofs(parsed.tree)).length,
  };
}

async function sociReport(bytes: Uint8Array, load: Load): Promise<Body> {
  const index = readSociIndex(bytes);
  const layers: IndexLayerInfo[] = [];
  for (const layer of index.layers) layers.push(await sociLayer(layer, load));
  return { format: index.version === 'v1' ? 'soci-v1' : 'soci-v2', buildTool: index.buildTool, layers };
}

async function sociLayer({ layer, ztoc, spanSize }: SociLayer, load: Load): Promise<IndexLayerInfo> {
  const bytes = await load(ztoc);
  const parsed = bytes === undefined ? undefined : readZtoc(bytes);
  return {
    layer,
    ztoc: ztoc.digest,
    table: undefined,
    size: ztoc.size,
    windows: undefined,
    windowsSize: undefined,
    spanSize,
    spans: parsed?.spans.count,
    entries: parsed?.entries.length,
  };
}
