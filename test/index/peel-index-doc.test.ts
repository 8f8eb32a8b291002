// The examples in docs/peel-index.md are what this release writes and reads.
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { decompress } from 'zstd-napi';
import { defaultIndexLimits } from '../../src/index/limits.ts';
import { readPeelIndex } from '../../src/index/peel-index-reader.ts';
import { peelIndexManifest } from '../../src/index/peel-index-writer.ts';
import { maxFrameBytes, maxFrameContent, tableHeaderSize, tableVersion } from '../../src/index/peel-table-format.ts';
import { readPeelTable } from '../../src/index/peel-table-reader.ts';
import { writePeelTable } from '../../src/index/peel-table-writer.ts';
import { decodeWindow } from '../../src/index/peel-window.ts';
import { digestFromSha256 } from '../../src/oci/digest.ts';
import { windowRuns } from '../support/window-frame.ts';
import { defaultErofsLimits } from '../../src/tree/erofs-reader.ts';
import { sampleDigest, samplePeelTable } from './samples.ts';

const page = readFileSync(new URL('../../docs/peel-index.md', import.meta.url), 'utf8');

/** The code blocks of one kind. */
function blocks(kind: string): string[] {
  return [...page.matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)]
    .filter(([, of]) => of === kind)
    .map(([, , text]) => text ?? '');
}

/** Offset and bytes of each line. */
function hexLines(text: string): { at: number; bytes: Buffer }[] {
  return [...text.matchAll(/^ *(?:(\d+) {2})?([0-9a-f]+)(?= |$)/gm)].map(([, at, hex]) => ({
    at: Number(at ?? 0),
    bytes: Buffer.from(hex ?? '', 'hex'),
  }));
}

describe('docs/peel-index.md', () => {
  const digestOf = (text: string) => digestFromSha256(sampleDigest(text));
  const [table = '', frame = ''] = blocks('');
  const lines = hexLines(table);
  const tableBytes = Buffer.concat(lines.map(({ bytes }) => bytes));

  it('shows a table that is read, and written again, as it stands', () => {
    let at = 0;
    for (const line of lines) {
      expect(line.at).toBe(at);
      at += line.bytes.length;
    }
    const { layer, diffId, spans, windows, tree } = readPeelTable(tableBytes);
    expect([layer, diffId]).toEqual([digestOf('layer'), digestOf('stream')]);
    expect([spans.count, spans.blobSize, spans.streamSize, spans.spanSize]).toEqual([4, 500, 11_500, 2048]);
    expect(spans.span(3)).toMatchObject({
      blobStart: 317,
      blobEnd: 500,
      streamStart: 9000,
      streamEnd: 11_500,
      bits: 3,
    });
    expect([...windows.lengths]).toEqual([0, 101, 0, 0]);
    expect(Buffer.from(tree).toString()).toBe('an EROFS image '.repeat(20));
    expect(Buffer.from(writePeelTable(samplePeelTable())).toString('hex')).toBe(tableBytes.toString('hex'));
  });

  it('shows a window', () => {
    const window = Buffer.alloc(32_768);
    window.write('lazy', 300);
    window.write('peel', 32_764);
    const [whole, ...parts] = hexLines(frame);
    const bytes = whole?.bytes ?? Buffer.alloc(0);
    expect(Buffer.from(decodeWindow(bytes)).equals(window)).toBe(true);
    let at = 0;
    for (const part of parts) {
      expect(part.at).toBe(at);
      at += part.bytes.length;
    }
    const content = Buffer.concat(parts.map((part) => part.bytes));
    expect(decompress(bytes).equals(content)).toBe(true);
    expect(windowRuns(window).equals(content)).toBe(true);
    expect(page).toContain('at most 33 280 bytes, that decode to at most 32 776.');
    expect([maxFrameBytes, maxFrameContent]).toEqual([33_280, 32_776]);
  });

  it('shows a manifest that is read, and written again', () => {
    const text = blocks('json')[0] ?? '';
    const [layer] = readPeelIndex(Buffer.from(text)).layers;
    expect(layer).toMatchObject({ layer: digestOf('layer'), spanSize: 2048, windows: { size: 101 } });
    expect(layer?.table.digest).toBe(digestFromSha256(sampleDigest(tableBytes)));
    const { manifest } = peelIndexManifest({
      subject: { mediaType: 'application/vnd.oci.image.manifest.v1+json', digest: digestOf('image'), size: 1234 },
      buildTool: 'peel 0.1.0',
      layers: [
        {
          layer: { digest: digestOf('layer') },
          spanSize: 2048,
          table: { digest: digestFromSha256(sampleDigest(tableBytes)), size: tableBytes.length },
          windows: { digest: digestOf('window 1'), size: 101 },
        },
      ],
    });
    expect(Buffer.from(manifest.bytes).toString()).toBe(JSON.stringify(JSON.parse(text)));
  });

  it('states the version, the size of the header and the limits of this release', () => {
    const { blobBytes, manifestBytes, descriptors, treeBytes, spans, entries, streamBytes } = defaultIndexLimits;
    const spaced = (value: number) => String(value).replace(/\B(?=(\d{3})+$)/g, ' ');
    expect(page).toContain(`# The peel index, version ${tableVersion}\n`);
    expect(page).toContain(`| ${tableHeaderSize} | *c* | columns |`);
    expect(page).toContain(`| manifest | ${manifestBytes >> 20} MiB, ${descriptors} entries of \`layers\` |`);
    expect(page).toContain(`| table | ${blobBytes >> 20} MiB |`);
    expect(page).toContain(`| tree, decompressed | ${treeBytes >> 20} MiB |`);
    expect(page).toContain(`| spans | ${spaced(spans)} |`);
    const tree = defaultErofsLimits;
    expect(tree.entries).toBe(entries);
    expect(page).toContain(`| files and directories, by each of their names | ${spaced(entries)} |`);
    expect(page).toContain(`| a path | ${spaced(tree.nameBytes)} bytes |`);
    expect(page).toContain(`| all paths and link targets | ${tree.allNameBytes / 2 ** 30} GiB |`);
    expect(page).toContain(`and 64 bytes for each | ${tree.allXattrBytes >> 20} MiB |`);
    expect(page).toContain(`| runs of data of all files | ${spaced(tree.extents)} |`);
    expect(page).toContain(`| chunks of all files, holes among them | ${spaced(tree.chunks)} |`);
    expect(page).toContain(`| layer stream | ${streamBytes / 2 ** 40} TiB |`);
  });
});
