// A job like those that come for the layers of an image: for threads whose code is to be compiled before.
import { SpanColumns } from '../index/span-columns.ts';
import { writePeelTable } from '../index/peel-table-writer.ts';
import { digestFromSha256 } from '../oci/digest.ts';
import type { TarEntry } from '../tar/entry.ts';
import { archiveTree } from '../tree/archive-tree.ts';
import { writeErofs } from '../tree/erofs-writer.ts';
import { byteStringFromText } from '../util/byte-string.ts';
import type { TableJob } from './index-job.ts';

const files = 400;
const filesPerDirectory = 16;
const spanSize = 256 << 10;
const none: TarEntry['pax'] = new Map();

/** The table of a layer of directories, files, symbolic and hard links, which lies as it is in its blob. */
export function sampleJob(): TableJob {
  const { entries, size } = sampleEntries();
  const digest = digestFromSha256(new Uint8Array(32));
  const starts = Float64Array.from({ length: Math.ceil(size / spanSize) }, (_, i) => i * spanSize);
  const count = starts.length;
  const spans = new SpanColumns(
    {
      decoder: 'stored',
      blobSize: size,
      streamSize: size,
      openEnded: false,
      spanSize,
      streamStarts: starts,
      blobStarts: starts,
      sha256: new Uint8Array(32 * count),
    },
    'sample',
  );
  const windows = { lengths: new Uint32Array(count), sha256: new Uint8Array(32 * count) };
  const tree = writeErofs(archiveTree(entries, { streamSize: size }));
  return {
    kind: 'table',
    table: writePeelTable({ layer: digest, diffId: digest, spans, windows, tree }),
    descriptor: { digest, size, mediaType: 'application/vnd.oci.image.layer.v1.tar' },
    diffId: digest,
    windows: undefined,
    provenance: { format: 'peel', source: 'sample' },
    tree: { base: false, userXattr: false },
  };
}

function sampleEntries(): { readonly entries: readonly TarEntry[]; readonly size: number } {
  const entries: TarEntry[] = [];
  let at = 0;
  const add = (
    path: string,
    what: Pick<TarEntry, 'type'> & { readonly link?: string; readonly size?: number },
  ): void => {
    const { type, link = '', size = 0 } = what;
    const dataOffset = at + 512;
    entries.push({
      path: byteStringFromText(path),
      type,
      mode: type === 'dir' ? 0o755 : 0o644,
      uid: 0,
      gid: 0,
      uname: byteStringFromText(''),
      gname: byteStringFromText(''),
      mtime: 1_700_000_000,
      mtimeNs: 0,
      size,
      link: byteStringFromText(link),
      devMajor: 0,
      devMinor: 0,
      xattrs: none,
      pax: none,
      extents: size === 0 ? [] : [{ fileOffset: 0, streamOffset: dataOffset, size }],
      sparse: false,
      headerOffset: at,
      dataOffset,
    });
    at = dataOffset + Math.ceil(size / 512) * 512;
  };
  for (const path of ['usr', 'usr/lib']) add(path, { type: 'dir' });
  for (let i = 0; i < files; i += 1) {
    const dir = `usr/lib/library${Math.floor(i / filesPerDirectory)}`;
    const place = i % filesPerDirectory;
    if (place === 0) add(dir, { type: 'dir' });
    if (place === 5) add(`${dir}/link${i}.so`, { type: 'symlink', link: `module${i - 1}.so.1` });
    else if (place === 9) add(`${dir}/again${i}`, { type: 'hardlink', link: `${dir}/module${i - 1}.so.1` });
    else add(`${dir}/module${i}.so.1`, { type: 'file', size: (i * 7919) % 60_000 });
  }
  return { entries, size: at + 1024 };
}
