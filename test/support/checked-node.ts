// A node with one image, and what `peel fsck` says of it.
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { expect } from 'vitest';
import type { Node } from '../../src/daemon/node.ts';
import type { Finding } from '../../src/fsck/finding.ts';
import { fsckVerdict } from '../../src/fsck/fsck.ts';
import type { LoadedImage } from '../../src/image/loaded-image.ts';
import type { LayerPaths } from '../../src/layer/layer-paths.ts';
import type { Layer } from '../../src/layer/layer.ts';
import { runIndexJob } from '../../src/layer/run-index-job.ts';
import { ImageLab, labLayer } from './image-lab.ts';
import type { LabCompression, LabImage, LabLayer } from './image-lab.ts';
import { tarOf } from './tar-members.ts';

const spanSize = 64 << 10;
const data = randomBytes(600_000);

export interface Situation {
  readonly lab: ImageLab;
  readonly node: Node;
  readonly pushed: LabImage;
  readonly layer: LabLayer;
  readonly paths: LayerPaths;
}

export async function situation(o: { compression?: LabCompression; indexed?: boolean } = {}): Promise<Situation> {
  const { compression = 'none', indexed = true } = o;
  const lab = await ImageLab.start();
  const layer = labLayer(tarOf({ path: 'f', data }), compression);
  const pushed = await lab.push('1', [layer]);
  if (indexed) await lab.pushIndex(pushed, { spanSize });
  // Threads need the built code.
  const node = await lab.node({ jobs: { run: (job) => runIndexJob(job) } });
  return { lab, node, pushed, layer, paths: node.imageDeps.layers.paths(layer.descriptor.digest) };
}

export async function withLayer<T>(
  { node, pushed }: Situation,
  use: (layer: Layer, image: LoadedImage) => Promise<T>,
): Promise<T> {
  const image = await node.openImage(pushed.reference);
  try {
    return await use(image.openLayers[0] as Layer, image);
  } finally {
    await image.close();
  }
}

/** As the kernel would read it, and no process of ours. */
export const fileBytes = (paths: LayerPaths, layer: LabLayer) => readFileSync(paths.data).subarray(0, layer.tar.length);

export async function fill(s: Situation): Promise<void> {
  await withLayer(s, (layer) => layer.fillCache({ signal: new AbortController().signal }));
}

export async function check(
  node: Node,
  o: { repair?: boolean; names?: readonly string[] } = {},
): Promise<{ verdict: string; findings: readonly Finding[]; text: string }> {
  const said: Finding[] = [];
  const report = await node.fsck({
    names: o.names ?? [],
    repair: o.repair ?? false,
    bandwidth: 0,
    signal: new AbortController().signal,
    onFinding: (finding) => said.push(finding),
  });
  expect(said).toEqual(report.findings);
  const text = report.findings.map(({ place, what, how }) => `${place}: ${what}: ${how ?? ''}`).join('\n');
  return { verdict: fsckVerdict(report), findings: report.findings, text };
}
