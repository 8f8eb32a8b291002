// What the newest peel index of an image in a registry says, as a reader of its blobs finds it.
import { peelIndexType } from '../../src/index/peel-names.ts';
import type { PeelLayer } from '../../src/index/peel-index.ts';
import { readPeelIndex } from '../../src/index/peel-index-reader.ts';
import { readPeelTable } from '../../src/index/peel-table-reader.ts';
import type { PeelTable } from '../../src/index/peel-table-reader.ts';
import type { Descriptor } from '../../src/oci/descriptor.ts';
import type { Digest } from '../../src/oci/digest.ts';
import type { Registry } from '../../src/registry/registry.ts';
import { readErofs } from '../../src/tree/erofs-reader.ts';
import { treeEntries } from '../../src/tree/tree-entries.ts';
import { byteStringFromText } from '../../src/util/byte-string.ts';

export interface PushedPeelLayer extends PeelLayer, Pick<PeelTable, 'spans'> {
  readonly bytes: { readonly table: Uint8Array; readonly windows: Uint8Array | undefined };
  /** Where the frame of a span's window lies in the windows blob; undefined when it has none. */
  window(span: number): { readonly start: number; readonly end: number } | undefined;
  /** Where the bytes of a file begin in the stream. */
  streamOffset(file: string): number;
}

export interface PushedPeelIndex {
  readonly digest: Digest;
  readonly layers: readonly PushedPeelLayer[];
}

export async function pushedPeelIndex(
  registry: Registry,
  repository: string,
  subject: Pick<Descriptor, 'digest'>,
): Promise<PushedPeelIndex> {
  for await (const { digest } of registry.referrers(repository, subject.digest, { artifactType: peelIndexType })) {
    const { layers } = readPeelIndex((await registry.getManifest(repository, digest)).bytes);
    return { digest, layers: await Promise.all(layers.map((layer) => pushedLayer(registry, repository, layer))) };
  }
  throw new Error(`no peel index of ${subject.digest}`);
}

async function pushedLayer(registry: Registry, repository: string, layer: PeelLayer): Promise<PushedPeelLayer> {
  const blob = async ({ digest }: Descriptor) => {
    const { body } = await registry.getBlob(repository, digest);
    return Buffer.concat((await body.toArray()) as Buffer[]);
  };
  const table = await blob(layer.table);
  const windows = layer.windows && (await blob(layer.windows));
  const { spans, windows: frames, tree } = readPeelTable(table);
  const entries = treeEntries(readErofs(tree));
  return {
    ...layer,
    spans,
    bytes: { table, windows },
    window: (span) => {
      const length = frames.lengths[span] ?? 0;
      const start = frames.lengths.subarray(0, span).reduce((sum, each) => sum + each, 0);
      return length === 0 ? undefined : { start, end: start + length };
    },
    streamOffset: (file) => {
      const entry = entries.find(({ path }) => path === byteStringFromText(file));
      const [extent] = entry?.extents ?? [];
      if (extent === undefined) throw new Error(`no bytes of ${file} in ${layer.layer}`);
      return extent.streamOffset;
    },
  };
}
