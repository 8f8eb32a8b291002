import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ImageLab, labLayer, sha256 } from '../support/image-lab.ts';
import type { LabImage } from '../support/image-lab.ts';
import { LayersProcess, wishesOf } from '../support/layers-process.ts';
import { canMount } from '../support/peel-node.ts';
import { runOk } from '../support/run.ts';
import { tarOf } from '../support/tar-members.ts';

const spanSize = 64 << 10;
const data = randomBytes(700_000);
const lazy = () => labLayer(tarOf({ path: 'etc', type: 'dir' }, { path: 'etc/big', data: randomBytes(700_000) }));
const sumOf = async (path: string) => `sha256:${(await runOk('sha256sum', [path])).slice(0, 64)}`;

/** Two layers with a zTOC, a small gzip one without. */
async function indexed(lab: ImageLab): Promise<LabImage> {
  const base = labLayer(tarOf({ path: './', type: 'dir', mode: 0o751 }, { path: 'base', data }));
  const image = await lab.push('1', [base, lazy(), labLayer(tarOf({ path: 'small', data: 'small' }), 'gzip')]);
  await lab.pushIndex({ ...image, layers: image.layers.slice(0, 2) }, { spanSize });
  return image;
}

describe.skipIf(!canMount)('SnapshotLayers', () => {
  it.each(['kernel', 'native'] as const)('serves a labelled image layer by layer: %s', async (transport) => {
    const lab = await ImageLab.start();
    const image = await indexed(lab);
    const layers = await LayersProcess.start(join(lab.dir, 'root'), { transport });
    const outcomes = await layers.pull(image);
    expect(outcomes).toMatchObject(
      image.layers.map(({ descriptor }) => ({ kind: 'served', image: image.reference, layer: descriptor.digest })),
    );
    expect(await layers.status()).toMatchObject([
      { serving: 'lazy', transport, why: expect.stringMatching(/^zTOC sha256:/), presentBytes: 0 },
      { serving: 'lazy', transport },
      { serving: 'complete', transport, direct: transport === 'kernel', why: expect.stringContaining('leaves it out') },
    ]);
    const dirs = await Promise.all([1, 2, 3].map((slot) => layers.directory(slot)));
    expect(await sumOf(join(dirs[0] ?? '', 'base'))).toBe(sha256(data));
    expect(await runOk('cat', [join(dirs[2] ?? '', 'small')])).toBe('small');
    expect((await runOk('stat', ['-c', '%a', dirs[0] ?? ''])).trim()).toBe('751');
    const { size, inodes } = await layers.usage(1);
    expect(size).toBeGreaterThan(data.length);
    expect(inodes).toBeGreaterThan(3);
  });
});
