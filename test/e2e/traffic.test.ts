// What crosses the network, counted in front of the registry.
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Ztoc, readZtoc } from '../../src/index/ztoc-reader.ts';
import { digestHex } from '../../src/oci/digest.ts';
import { byteStringFromText } from '../../src/util/byte-string.ts';
import { makeFixture } from '../support/fixtures.ts';
import { type BuiltImage, pushImage } from '../support/image-builder.ts';
import { PeelNode, type Transport, canMount } from '../support/peel-node.ts';
import { runOk } from '../support/run.ts';
import { pushedZtocs } from '../support/soci-index.ts';
import { TestRegistry, layersOf } from '../support/test-registry.ts';

const readAt = new URL('../support/read-at.py', import.meta.url).pathname;
/** How far the kernel may read past a file's end into the layer. */
const readAhead = 256 << 10;
/** Only what is read is counted here. */
const only = '--no-read-ahead';

describe.skipIf(!canMount)('the network', () => {
  let registry: TestRegistry;
  let node: PeelNode;
  let image: BuiltImage;
  let ztoc: Ztoc;
  let blob: string;

  beforeAll(async () => {
    registry = await TestRegistry.start();
    const tars = await makeFixture('bulk', registry.work('bulk'), '100');
    image = await registry.push('bulk', layersOf(tars, 'pigz'));
    await pushImage(registry.store, 'other/name', 'v2', image);
    blob = `/blobs/${image.layers[0]?.descriptor.digest}`;
    const indexer = new PeelNode();
    await indexer.ok(['index', 'create', registry.reference('bulk'), '--push', '--format', 'soci']);
    await indexer.close();
    const [pushed] = await pushedZtocs(registry.store, 'bulk', image.manifest.descriptor);
    ztoc = readZtoc(pushed?.bytes ?? new Uint8Array());
  });
  afterAll(() => registry.close());
  beforeEach(() => {
    node = new PeelNode();
    registry.front.forget();
  });
  afterEach(() => node.close());

  /** A file in the middle of the layer whose spans stay the same with the kernel's read-ahead around it, and those spans. */
  function inner(): { name: string; first: number; last: number } {
    for (let i = 30; i < 100; i++) {
      const name = `bulk/${String(i).padStart(4, '0')}`;
      const entry = ztoc.entries.find(({ path }) => path === byteStringFromText(name));
      const start = entry?.extents[0]?.streamOffset ?? 0;
      const first = ztoc.spans.spanAt(start - readAhead);
      const last = ztoc.spans.spanAt(start + (1 << 20) + readAhead);
      if (first === last) return { name, first, last };
    }
    throw new Error('no file inside one span');
  }

  for (const transport of ['kernel', 'native'] as const satisfies readonly Transport[]) {
    it(`carries only the spans of the one file that is read, ${transport}`, async () => {
      const { name, first, last } = inner();
      const dir = await node.mount(registry.reference('bulk'), transport, only);
      expect(registry.front.bytes(blob)).toBe(0);
      const sum = await runOk('sha256sum', [join(dir, name)]);
      const unpack = `tar -xOf ${registry.work('bulk/00-bulk.tar')} ${name} | sha256sum`;
      expect(sum.slice(0, 64)).toBe((await runOk('sh', ['-c', unpack])).slice(0, 64));
      const { blobStart } = ztoc.spans.span(first);
      const { blobEnd } = ztoc.spans.span(last);
      for (const { range } of registry.front.seen(blob)) expect(range).toBe(`bytes=${blobStart}-${blobEnd - 1}`);
      expect(registry.front.bytes(blob)).toBe(blobEnd - blobStart);
    });

    it(`carries a span once for 64 readers of it at the same time, ${transport}`, async () => {
      const { name } = inner();
      const dir = await node.mount(registry.reference('bulk'), transport, only);
      await runOk('python3', [readAt, join(dir, name), '4096', '--spread', '64']);
      expect(registry.front.seen(blob)).toHaveLength(1);
    });
  }

  it('is silent for a second mount by digest, and sees one HEAD by tag', async () => {
    const { name } = inner();
    const first = await node.mount(registry.reference('bulk'), 'auto', only);
    await runOk('sha256sum', [join(first, name)]);
    await node.umount(first);

    registry.front.forget();
    const second = await node.mount(registry.byDigest('bulk', image), 'auto', only);
    await runOk('sha256sum', [join(second, name)]);
    expect(registry.front.requests).toEqual([]);
    await node.umount(second);

    const third = await node.mount(registry.reference('bulk'), 'auto', only);
    await runOk('sha256sum', [join(third, name)]);
    expect(registry.front.requests.map(({ method }) => method)).toEqual(['HEAD']);
  });

  it('carries the bytes of a layer once for two references, which are one layer in the cache', async () => {
    const { name } = inner();
    const first = await node.mount(registry.reference('bulk'), 'auto', only);
    await runOk('sha256sum', [join(first, name)]);
    const before = registry.front.bytes(blob);
    const second = await node.mount(registry.reference('other/name', 'v2'), 'auto', only);
    await runOk('sha256sum', [join(second, name)]);
    expect(registry.front.bytes(blob)).toBe(before);
    const cached = await readdir(join(node.root, 'blobs', 'sha256'));
    expect(cached).toEqual(image.layers.map(({ descriptor }) => digestHex(descriptor.digest)));
  });
});
