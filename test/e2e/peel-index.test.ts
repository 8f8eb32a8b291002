// The whole way of a peel index, from the command that makes it to the last byte that is read by it, and what crosses the network for each step.
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import type { IndexReport } from '../../src/image/index-report.ts';
import { digestHex } from '../../src/oci/digest.ts';
import { RemoteRegistry } from '../../src/registry/remote-registry.ts';
import { memberLayer } from '../support/container-image.ts';
import { startDockerRegistry } from '../support/docker-registry.ts';
import { everything } from '../support/faults.ts';
import { makeFixture } from '../support/fixtures.ts';
import { holdBlobs } from '../support/held-blobs.ts';
import { type BuiltImage, pushImage } from '../support/image-builder.ts';
import { listTree, treeDifference } from '../support/list-tree.ts';
import { PeelNode, canMount } from '../support/peel-node.ts';
import { type PushedPeelIndex, type PushedPeelLayer, pushedPeelIndex } from '../support/pushed-peel-index.ts';
import { unpackWithUmoci } from '../support/reference-tree.ts';
import { RegistryFront, type SeenRequest } from '../support/registry-front.ts';
import { runOk } from '../support/run.ts';
import { TestRegistry, layersOf } from '../support/test-registry.ts';

const readAt = new URL('../support/read-at.py', import.meta.url).pathname;
const wait = { timeout: 20_000, interval: 20 };
/** Only what is read is counted here. */
const only = '--no-read-ahead';
/** Nothing compresses it but its sixteen letters, and every place reaches back. */
const letters = (size: number) => Buffer.from(randomBytes(size / 2).toString('hex'));
const digestOf = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

describe.skipIf(!canMount)('a peel index', () => {
  let registry: TestRegistry;
  let zoo: BuiltImage;
  let expected: string[];

  beforeAll(async () => {
    registry = await TestRegistry.start();
    const tars = await makeFixture('zoo', registry.work('zoo'));
    zoo = await registry.push('zoo', layersOf(tars, 'gzip', 'zstd-frames', 'none', 'members', 'zstd'));
    expected = await listTree(await unpackWithUmoci(registry.work('reference'), tars));
  });
  afterAll(() => registry.close());

  describe('that one node pushes', () => {
    const flags = ['--format', 'both', '--push', '--min-layer-size', '0', '--peel-span-size', '64KiB'];

    let maker: PeelNode;

    beforeAll(() => void (maker = new PeelNode()));
    afterAll(() => maker.close());

    /** By another node, lazily, and it is the same. */
    async function expectUsed(reference: string, front: RegistryFront, digest: string): Promise<void> {
      const node = new PeelNode();
      try {
        front.forget();
        const dir = await node.mount(reference);
        for (const { descriptor } of zoo.layers.slice(0, 4)) expect(front.seen(descriptor.digest)).toEqual([]);
        const text = await node.ok(['inspect', reference]);
        expect(text).toMatch(new RegExp(`^Index: +peel index ${digest} \\(referrer in `, 'm'));
        // The last layer is one zstd frame, of which no part can be read by itself.
        expect(text.match(/ peel +peel table sha256:/g)).toHaveLength(4);
        expect(treeDifference(await listTree(dir), expected)).toBe('');
      } finally {
        await node.close();
      }
    }

    it('is found by another through the referrers API, before the SOCI index beside it', async () => {
      const reference = registry.reference('zoo');
      const [made] = await maker.json<IndexReport[]>(['index', 'create', reference, ...flags]);
      expect(made?.indexes).toEqual({ peel: expect.any(String), soci: expect.any(String) });
      await expectUsed(reference, registry.front, made?.indexes.peel ?? '');
    });

    it('is found under the fallback tag of a registry by other people, which knows no referrers', async () => {
      const docker = await startDockerRegistry();
      const front = await RegistryFront.start(docker.host);
      try {
        await pushImage(new RemoteRegistry({ host: front.host }), 'library/zoo', 'v1', zoo);
        const reference = `${front.host}/library/zoo:v1`;
        const [made] = await maker.json<IndexReport[]>(['index', 'create', reference, ...flags]);
        const fallback = () =>
          front.seen(`/manifests/sha256-${digestHex(zoo.manifest.descriptor.digest)}`).map(({ method }) => method);
        expect(fallback()).toContain('PUT');
        await expectUsed(reference, front, made?.indexes.peel ?? '');
        expect(fallback()).toContain('GET');
      } finally {
        await front.close();
        await docker.close();
      }
    });
  });

  // Each goes on with the node that the one before has left.
  describe('by which an image is read', () => {
    const files = ['a', 'b', 'c'].map((name) => ({ name, data: letters(2 << 20) }));
    let node: PeelNode;
    let image: BuiltImage;
    let index: PushedPeelIndex;
    let dir: string;

    beforeAll(async () => {
      const members = [files.slice(0, 1), files.slice(1)];
      const tars = await Promise.all(members.map((each, i) => memberLayer(registry.work(`l-${i}.tar`), each)));
      image = await registry.push('letters', layersOf(tars, 'gzip'));
      const maker = new PeelNode();
      await maker.ok(['index', 'create', registry.reference('letters'), '--push', '--min-layer-size', '0']);
      await maker.close();
      index = await pushedPeelIndex(registry.store, 'letters', image.manifest.descriptor);
      node = new PeelNode();
    });
    afterAll(() => node.close());

    const upper = (): PushedPeelLayer => index.layers[1] as PushedPeelLayer;
    const windows = (): string => upper().windows?.digest ?? '';
    const windowsFile = () => join(node.root, 'blobs/sha256', digestHex(upper().layer), 'windows');
    const gets = (digest: string) => registry.front.seen(digest).filter(({ method }) => method === 'GET');
    /** Reads a page in the middle of a span of the upper layer, where the kernel's read-ahead stays inside. */
    async function readSpan(span: number): Promise<void> {
      const { streamStart, streamEnd } = upper().spans.span(span);
      const middle = ((streamStart + streamEnd) / 2) & ~4095;
      const file = files.slice(1).find(({ name, data }) => {
        const start = upper().streamOffset(name);
        return start <= middle && middle + 4096 <= start + data.length;
      });
      if (file === undefined) throw new Error(`no file in the middle of span ${span}`);
      const at = (middle - upper().streamOffset(file.name)) & ~4095;
      const sum = await runOk('python3', [readAt, join(dir, file.name), '4096', String(at)]);
      expect(sum.trim()).toBe(digestOf(file.data.subarray(at, at + 4096)));
    }

    async function readAll(): Promise<void> {
      for (const { name, data } of files)
        expect((await runOk('sha256sum', [join(dir, name)])).slice(0, 64)).toBe(digestOf(data));
    }

    it('the tables of its layers are asked for at once, and nothing else of them', async () => {
      const { front } = registry;
      const tables = index.layers.map(({ table }) => table.digest);
      front.forget();
      const held = holdBlobs(registry, tables);
      onTestFinished(() => held.release());
      const mounting = node.mount(registry.reference('letters'), 'auto', only);
      mounting.catch(() => {});
      await vi.waitFor(() => expect(held.waiting).toBe(2), wait);
      held.release();
      dir = await mounting;
      await runOk('ls', ['-lR', dir]);
      const told = front.requests.map(({ method, path }) => `${method} ${path.replace(/^.*?\/letters\//, '')}`);
      const wanted = [
        'GET manifests/latest',
        `GET blobs/${image.config.descriptor.digest}`,
        `GET referrers/${image.manifest.descriptor.digest}`,
        `GET manifests/${index.digest}`,
        ...tables.map((digest) => `GET blobs/${digest}`),
        ...index.layers.map((layer) => `HEAD blobs/${layer.windows?.digest}`),
      ];
      expect(told.toSorted()).toEqual(wanted.toSorted());
    });

    it('a span and its window are asked for at the same time, and neither again', async () => {
      const { front } = registry;
      const span = 6;
      front.forget();
      const held = holdBlobs(registry, [upper().layer, windows()]);
      onTestFinished(() => held.release());
      const reading = readSpan(span);
      reading.catch(() => {});
      await vi.waitFor(() => expect(held.waiting).toBe(2), wait);
      const { blobStart, blobEnd } = upper().spans.span(span);
      expect(gets(upper().layer).map(({ range }) => range)).toEqual([`bytes=${blobStart}-${blobEnd - 1}`]);
      const window = upper().window(span);
      const [asked] = gets(windows()).map(rangeOf);
      expect(asked?.start).toBeLessThanOrEqual(window?.start ?? -1);
      expect(asked?.end).toBeGreaterThanOrEqual(window?.end ?? Infinity);
      held.release();
      await reading;
      await node.umount(dir);
      front.forget();
      dir = await node.mount(registry.byDigest('letters', image), 'auto', only);
      await readSpan(span);
      expect(front.requests).toEqual([]);
    });

    it('a window that came with another is not asked for, unless its bytes on the disk are wrong', async () => {
      const { front } = registry;
      front.forget();
      // Requests are widened forwards to what they are worth.
      await readSpan(8);
      expect(gets(upper().layer)).toHaveLength(1);
      expect(gets(windows())).toEqual([]);
      await readSpan(11);
      expect(gets(windows())).toHaveLength(1);
      await node.umount(dir);
      const kept = readFileSync(windowsFile());
      writeFileSync(
        windowsFile(),
        kept.map((byte) => byte ^ 0xff),
      );
      dir = await node.mount(registry.byDigest('letters', image), 'auto', only);
      front.forget();
      await readSpan(13);
      expect(gets(windows())).toHaveLength(1);
      const window = upper().window(13);
      const written = readFileSync(windowsFile()).subarray(window?.start, window?.end);
      expect(written.equals(upper().bytes.windows?.subarray(window?.start, window?.end) as Buffer)).toBe(true);
    });

    it('a window is not asked for where what is before its span is here', async () => {
      registry.front.forget();
      await readSpan(7);
      expect(gets(upper().layer)).toHaveLength(1);
      expect(gets(windows())).toEqual([]);
    });

    it('adjacent windows come in one request, and none twice', async () => {
      registry.front.forget();
      expect(existsSync(windowsFile())).toBe(true);
      await runOk('sha256sum', [join(dir, 'c')]);
      const requests = gets(windows())
        .map(rangeOf)
        .toSorted((a, b) => a.start - b.start);
      const carried = Array.from({ length: upper().spans.count }, (_, span) => upper().window(span)).filter(
        (window) => window && requests.some(({ start, end }) => start <= window.start && window.end <= end),
      );
      expect(carried.length).toBeGreaterThanOrEqual(2 * requests.length);
      for (const [i, { start }] of requests.entries()) expect(start).toBeGreaterThanOrEqual(requests[i - 1]?.end ?? 0);
    });

    it('a complete layer has no windows any more, and is read with no registry', async () => {
      await readAll();
      await vi.waitFor(() => expect(existsSync(windowsFile())).toBe(false), wait);
      await node.umount(dir);
      const back = registry.front.interfere(everything, (request) => void request.socket.destroy());
      try {
        dir = await node.mount(registry.byDigest('letters', image), 'auto', only);
        await readAll();
      } finally {
        back();
      }
      await node.umount(dir);
    });
  });
});

function rangeOf({ range = '' }: SeenRequest): { start: number; end: number } {
  const [, first = '', last = ''] = /^bytes=(\d+)-(\d+)$/.exec(range) ?? [];
  return { start: Number(first), end: Number(last) + 1 };
}
