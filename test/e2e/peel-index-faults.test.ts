// Peel indexes that are not what they should be, and windows that cannot be had: the next index, or an error, and never a wrong byte.
import { createHash, randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { InspectedImage } from '../../src/image/image.ts';
import { memberLayer } from '../support/container-image.ts';
import { answer, forBlob } from '../support/faults.ts';
import { type BuiltImage, pushImage } from '../support/image-builder.ts';
import { PeelDaemon } from '../support/peel-daemon.ts';
import { pushPeelIndex } from '../support/peel-index.ts';
import { PeelNode, canMount } from '../support/peel-node.ts';
import { type PushedPeelIndex, type PushedPeelLayer, pushedPeelIndex } from '../support/pushed-peel-index.ts';
import type { Fault } from '../support/registry-front.ts';
import { run, runOk } from '../support/run.ts';
import { pushSociIndex, pushedZtocs } from '../support/soci-index.ts';
import { TestRegistry, layersOf } from '../support/test-registry.ts';

/** Nothing compresses it but its sixteen letters, and every place reaches back. */
const letters = (size: number) => Buffer.from(randomBytes(size / 2).toString('hex'));
const digestOf = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const files = Array.from({ length: 4 }, (_, i) => ({ name: `f${i}`, data: letters(2 << 20) }));
/** ms, as in the daemon's configuration. */
const deadline = 20_000;

describe.skipIf(!canMount)('of an image', () => {
  let registry: TestRegistry;
  let image: BuiltImage;
  let ztocs: Awaited<ReturnType<typeof pushedZtocs>>;
  let index: PushedPeelIndex;

  beforeAll(async () => {
    registry = await TestRegistry.start();
    const tars = await Promise.all(files.map((file) => memberLayer(registry.work(`${file.name}.tar`), [file])));
    image = await registry.push('right', layersOf(tars, 'gzip'));
    const maker = new PeelNode();
    await maker.ok(['index', 'create', registry.reference('right'), '--push', '--min-layer-size', '0']);
    await maker.close();
    ztocs = await pushedZtocs(registry.store, 'right', image.manifest.descriptor);
    index = await pushedPeelIndex(registry.store, 'right', image.manifest.descriptor);
  });
  afterAll(() => registry.close());

  /** The image and its SOCI index under another name. */
  async function copied(name: string): Promise<string> {
    await pushImage(registry.store, name, 'latest', image);
    const layers = image.layers.map(({ descriptor }) => descriptor);
    const made = ztocs.map(({ layer, bytes, spanSize }) => {
      const of = layers.find(({ digest }) => digest === layer);
      if (of === undefined) throw new Error(`${layer} is no layer of the image`);
      return { layer: of, bytes, spanSize };
    });
    await pushSociIndex(registry.store, name, image.manifest.descriptor, made);
    return registry.reference(name);
  }

  async function mountedAndRight(node: PeelNode, reference: string): Promise<string> {
    const dir = await node.newDir();
    registry.front.forget();
    const { code, err } = await node.peel(['mount', reference, dir]);
    expect(code, err).toBe(0);
    for (const { descriptor } of image.layers) expect(registry.front.seen(descriptor.digest)).toEqual([]);
    for (const { name, data } of files)
      expect((await runOk('sha256sum', [join(dir, name)])).slice(0, 64)).toBe(digestOf(data));
    return err;
  }

  it('each layer whose part of it cannot be used is read by the SOCI index, which is said once', async () => {
    const reference = await copied('parts');
    const [first, second, third, fourth] = index.layers as [
      PushedPeelLayer,
      PushedPeelLayer,
      PushedPeelLayer,
      PushedPeelLayer,
    ];
    const place = { registry: registry.store, repository: 'parts' };
    const parts = [first, second, third, fourth].map(({ layer, bytes }) => ({ layer, ...bytes }));
    // That of another layer.
    const swapped = { layer: first.layer, table: fourth.bytes.table, windows: fourth.bytes.windows };
    await pushPeelIndex(place, { digest: image.manifest.descriptor.digest }, [swapped, ...parts.slice(1)]);
    const healed = [
      registry.front.interfere(forBlob(second.table.digest), flippedBytes),
      registry.front.interfere(({ url = '' }) => url.includes(third.windows?.digest ?? '?'), answer(404)),
    ];
    const node = new PeelNode();
    try {
      const err = await mountedAndRight(node, reference);
      const said = err.trim().split('\n');
      expect(said.map((line) => /peel table .* cannot be used: .*\(soci-v1\) is tried next/.test(line))).toEqual([
        true,
        true,
        true,
      ]);
      expect(said.filter((line) => line.includes(first.layer)).join()).toContain(`it is for layer ${fourth.layer}`);
      expect(said.filter((line) => line.includes(second.layer)).join()).toMatch(/content announced as sha256:/);
      expect(said.filter((line) => line.includes(third.layer)).join()).toContain(
        `its windows ${third.windows?.digest} are not in`,
      );
      const { layers } = await node.json<InspectedImage>(['inspect', reference]);
      expect(layers.map((layer) => layer.index?.format)).toEqual(['soci-v1', 'soci-v1', 'soci-v1', 'peel']);
    } finally {
      for (const heal of healed) heal();
      await node.close();
    }
  });

  it('a manifest that is none is passed over for the SOCI index, which is said once', async () => {
    const reference = await copied('none');
    const { bytes } = await registry.store.getManifest('right', index.digest);
    const manifest = JSON.parse(Buffer.from(bytes).toString()) as {
      layers: { annotations: Record<string, string> }[];
      config: { digest: string };
    };
    for (const layer of manifest.layers) layer.annotations = {};
    await registry.store.pushManifest(
      'none',
      undefined,
      Buffer.from(JSON.stringify(manifest)),
      'application/vnd.oci.image.manifest.v1+json',
      { allowMissing: true },
    );
    const node = new PeelNode();
    try {
      const err = await mountedAndRight(node, reference);
      expect(err.trim().split('\n')).toEqual([expect.stringMatching(/the index sha256:\S+ \(referrer.*is ignored: /)]);
      const text = await node.ok(['inspect', reference]);
      expect(text).toMatch(/^Index: +SOCI v1 index sha256:/m);
    } finally {
      await node.close();
    }
  });

  describe('that is mounted', () => {
    let daemon: PeelDaemon;
    let dir: string;

    beforeAll(async () => {
      daemon = new PeelDaemon({ config: ['[read]', `deadline = "${deadline}ms"`] });
      await daemon.start();
      dir = await runOk('mktemp', ['-d', `${daemon.dir}/mnt-XXXX`]).then((text) => text.trim());
      await daemon.ok(['mount', registry.reference('right'), dir]);
    });
    afterAll(() => daemon.close());

    it.each([
      ['are gone', 0, answer(404), /sha256:\S+ of right at \S+: not found, the registry answered 404/],
      ['come wrong', 1, flippedBytes, /the window of span \d+ in \S+ has not the digest that its index states/],
    ] as const)('reads fail while its windows %s, and are right again afterwards', async (_name, at, fault, cause) => {
      const { name, data } = files[at] as (typeof files)[number];
      const { windows } = index.layers[at] as PushedPeelLayer;
      const begun = daemon.log.length;
      const healed = registry.front.interfere(forBlob(windows?.digest ?? '?'), fault);
      const read = await run('od', ['-v', '-An', '-N1024', '-j1048576', join(dir, name)], { timeout: deadline });
      healed();
      expect(read).toMatchObject({ signal: null, out: '', err: expect.stringContaining('Input/output error') });
      const lines = daemon.log.slice(begun).split('\n');
      const said = lines.filter((line) => line.includes('reads fail'));
      // The kernel asks once more for a page that its read-ahead did not get.
      expect(said.length).toBeLessThanOrEqual(2);
      for (const line of said) expect((JSON.parse(line) as { error: string }).error).toMatch(cause);
      expect((await runOk('sha256sum', [join(dir, name)])).slice(0, 64)).toBe(digestOf(data));
    });
  });
});

/** All bytes of the body are others. */
function flippedBytes(...[, response, , ask]: Parameters<Fault>): void {
  void ask().then(
    ({ status, headers, body }) => response.writeHead(status, headers).end(body.map((byte) => byte ^ 0xff)),
    () => response.destroy(),
  );
}
