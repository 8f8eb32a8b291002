import { displayBytes } from '../util/byte-string.ts';
import type { TarEntry } from '../tar/entry.ts';
import type { LayerBuild } from './layer-build.ts';
import { formatRfc3339 } from './rfc3339.ts';
import { writeTarZinfo } from './tar-zinfo.ts';
import { writeZtoc } from './ztoc-writer.ts';

/** The bytes of a zTOC, or why the layer gets none. */
export type ZtocResult =
  | { readonly ztoc: Uint8Array; readonly skipped: undefined }
  | { readonly ztoc: undefined; readonly skipped: string };

/** A SOCI zTOC of a layer that was just indexed. `buildTool` is recorded in it. */
export function ztocFromBuild(build: LayerBuild, options: { buildTool: string }): ZtocResult {
  const obstacle = ztocObstacle(build);
  if (obstacle !== undefined) return { ztoc: undefined, skipped: obstacle };
  const { spans, compression, entries } = build;
  const ztoc = writeZtoc({
    buildTool: options.buildTool,
    compression: compression === 'gzip' ? 'gzip' : 'none',
    compressedSize: build.blobSize,
    uncompressedSize: build.tarEnd,
    entries,
    checkpoints: build.checkpoints ?? writeTarZinfo({ spanSize: spans.spanSize, size: build.blobSize }),
    spanSha256: spanDigests(build),
  });
  return { ztoc, skipped: undefined };
}

/** Why no zTOC can describe the layer truthfully; undefined when one can. */
export function ztocObstacle(build: LayerBuild): string | undefined {
  if (build.compression === 'zstd') return 'a zTOC cannot describe zstd layers';
  if (build.streamSize === 0) return 'the layer is empty';
  if (build.compression === 'gzip' && build.checkpoints === undefined)
    return 'another program has decompressed the layer';
  let end = 0;
  for (const entry of build.entries) {
    const obstacle = entryObstacle(entry, end);
    if (obstacle !== undefined) return `${displayBytes(entry.path)}: ${obstacle}`;
    end = Math.ceil((entry.dataOffset + entry.size) / 512) * 512;
  }
  return undefined;
}

function entryObstacle(entry: TarEntry, end: number): string | undefined {
  if (entry.sparse) return 'a zTOC cannot describe sparse files';
  if (formatRfc3339({ seconds: entry.mtime, nanoseconds: entry.mtimeNs }) === undefined) {
    return `a zTOC cannot hold the mtime ${entry.mtime}`;
  }
  // Readers take everything since the last member for this one's header and compare it with the entry before they serve the
  // file; a PAX global header in between would never compare equal.
  if (entry.type === 'file' && entry.headerOffset !== end) {
    return 'it follows a PAX global header, which readers of a zTOC take for its own';
  }
  return undefined;
}

function spanDigests(build: LayerBuild): Uint8Array {
  const digests = new Uint8Array(32 * build.spans.count);
  for (let i = 0; i < build.spans.count; i++) digests.set(build.spans.span(i).sha256 as Uint8Array, 32 * i);
  return digests;
}
