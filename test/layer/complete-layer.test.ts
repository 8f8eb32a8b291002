import { randomBytes } from 'node:crypto';
import { mkdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { labLayer } from '../support/image-lab.ts';
import { LayerLab } from '../support/layer-lab.ts';
import { tarOf } from '../support/tar-members.ts';

it('a layer that could not be recorded as checked is, once the disk takes it', async () => {
  const lab = await LayerLab.start();
  const layer = await lab.open(labLayer(tarOf({ path: 'f', data: randomBytes(300_000) })), { spanSize: 64 << 10 });
  const refused: unknown[] = [];
  layer.activity.observe({ refused: (error) => refused.push(error) });
  // No bitmap can be put there.
  const inTheWay = join(layer.paths.dir, 'present');
  mkdirSync(inTheWay);
  const { signal } = new AbortController();
  await expect(layer.fillCache({ signal })).rejects.toMatchObject({ code: 'ERR_LAYER_DISK' });
  expect(layer.complete).toBe(false);
  expect(refused).toEqual([]);
  rmdirSync(inTheWay);
  await layer.fillCache({ signal });
  expect(layer.complete).toBe(true);
});
