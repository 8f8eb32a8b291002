// Sizes and offsets that do not fit into 32 bits: a layer of 4.6 GB made up as it is read, a sparse file of 5 GB.
import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { isFullScale, makeFixture } from '../support/fixtures.ts';
import { serveManifest } from '../support/faults.ts';
import { describeImage } from '../support/image-builder.ts';
import { listTree, treeDifference } from '../support/list-tree.ts';
import { PeelNode, canMount } from '../support/peel-node.ts';
import { unpackWithTar } from '../support/reference-tree.ts';
import { runOk } from '../support/run.ts';
import { pushSociIndex } from '../support/soci-index.ts';
import { TestRegistry, layersOf } from '../support/test-registry.ts';
import { VirtualLayer } from '../support/virtual-layer.ts';

const readAt = new URL('../support/read-at.py', import.meta.url).pathname;
const bigSize = 4_600_000_000;
const hugeSize = 5_000_000_000;

describe.skipIf(!canMount)('beyond 4 GiB', () => {
  let registry: TestRegistry;
  let node: PeelNode;
  const layer = new VirtualLayer({ before: 100, big: bigSize, after: 70_000, last: 1 });
  let reference: string;

  beforeAll(async () => {
    registry = await TestRegistry.start();
    const image = describeImage([
      {
        source: { tar: '', compression: 'none' },
        blob: '',
        descriptor: layer.descriptor,
        diffId: layer.digest,
        streamSize: layer.size,
      },
    ]);
    const at = (path: string) => (request: IncomingMessage) => (request.url ?? '').startsWith(`/v2/far/${path}`);
    registry.front.interfere(at(`blobs/${layer.digest}`), layer.serve);
    // A registry may refuse a manifest whose layer it does not have.
    registry.front.interfere(at('manifests/latest'), serveManifest(image.manifest));
    registry.front.interfere(at(`manifests/${image.manifest.descriptor.digest}`), serveManifest(image.manifest));
    const { descriptor, bytes } = image.config;
    await registry.store.pushBlob('far', descriptor, () => Readable.from([Buffer.from(bytes)]));
    const ztoc = { layer: layer.descriptor, bytes: layer.ztoc(), spanSize: layer.spanSize };
    await pushSociIndex(registry.store, 'far', image.manifest.descriptor, [ztoc]);
    reference = registry.reference('far');
  });
  afterAll(() => registry.close());
  beforeEach(() => {
    node = new PeelNode();
    registry.front.forget();
  });
  afterEach(() => node.close());

  for (const transport of ['kernel', 'native'] as const) {
    it(`reads the right bytes of a lazy layer, ${transport}`, async () => {
      const dir = await node.mount(reference, transport, '--index', 'require');
      const list = await listTree(dir, { hash: false });
      expect(list.map((line) => line.split('\t').filter((_column, i) => i === 0 || i === 6))).toEqual([
        ['.', '-'],
        ['after', '70000'],
        ['before', '100'],
        ['big', String(bigSize)],
        ['last', '1'],
      ]);
      for (const name of ['before', 'after', 'last']) {
        expect((await runOk('sha256sum', [join(dir, name)])).slice(0, 64)).toBe(
          sha256(layer.readFile(name, 0, 70_000)),
        );
      }
      const offsets = [2 ** 31 - 100, 2 ** 32 - 512 - 4096, 2 ** 32 - 1000, 2 ** 32 + 5, bigSize - 3000];
      for (const offset of offsets) {
        const read = await runOk('python3', [readAt, join(dir, 'big'), '5000', String(offset)]);
        expect(read.trim(), `at ${offset}`).toBe(sha256(layer.readFile('big', offset, offset + 5000)));
      }
      expect(registry.front.bytes(layer.digest)).toBeLessThan(20 * layer.spanSize);
    });
  }

  for (const transport of isFullScale() ? (['kernel', 'native'] as const) : (['kernel'] as const)) {
    it(`serves a sparse file of 5 GB: size, data regions, random reads, ${transport}`, async () => {
      const tars = await makeFixture('huge', registry.work(`huge-${transport}`));
      await registry.push('huge', layersOf(tars, 'gzip'));
      const unpacked = await unpackWithTar(registry.work(`huge-reference-${transport}`), tars);
      const dir = await node.mount(registry.reference('huge'), transport);
      const options = { maxHash: 1 << 20 };
      expect(treeDifference(await listTree(dir, options), await listTree(unpacked, options))).toBe('');
      const huge = (root: string) => join(root, 'huge');
      const regions = (await runOk('python3', ['-c', dataRegions, huge(unpacked)])).trim().split('\n');
      expect(regions.length).toBeGreaterThanOrEqual(5);
      const random = Array.from({ length: 100 }, () => String(Math.floor(Math.random() * hugeSize)));
      const reads = [...regions.map((region) => region.split(' ')), ['10000', ...random, String(hugeSize - 5000)]];
      for (const read of reads) {
        const [actual, wanted] = await Promise.all(
          [dir, unpacked].map((root) => runOk('python3', [readAt, huge(root), ...read])),
        );
        expect(actual, read.join(' ')).toBe(wanted);
      }
    });
  }
});

/** Prints length and offset of every data region of a file. */
const dataRegions = `
import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
end = 0
while end < os.fstat(fd).st_size:
    start = os.lseek(fd, end, os.SEEK_DATA)
    end = os.lseek(fd, start, os.SEEK_HOLE)
    print(end - start, start)
`;

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
