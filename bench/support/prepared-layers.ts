// What containerd asks for when it pulls an image with a lazy snapshotter, layer by layer.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { SnapshotsClient } from './snapshots-client.ts';

export interface ImageFacts {
  readonly manifest: string;
  readonly layers: readonly string[];
  readonly diffIds: readonly string[];
}

export function factsOf(layout: string): ImageFacts {
  const read = (digest: string): unknown =>
    JSON.parse(readFileSync(`${layout}/blobs/sha256/${digest.slice('sha256:'.length)}`, 'utf8'));
  const { manifests } = JSON.parse(readFileSync(`${layout}/index.json`, 'utf8')) as { manifests: { digest: string }[] };
  const manifest = manifests[0]?.digest ?? '';
  const { layers, config } = read(manifest) as { layers: { digest: string }[]; config: { digest: string } };
  const { rootfs } = read(config.digest) as { rootfs: { diff_ids: string[] } };
  return { manifest, layers: layers.map(({ digest }) => digest), diffIds: rootfs.diff_ids };
}

/** OCI image spec config.md, "Layer ChainID". */
export function chainIds(diffIds: readonly string[]): string[] {
  const chain: string[] = [];
  for (const diffId of diffIds) {
    const below = chain.at(-1);
    const digest = (text: string): string => `sha256:${createHash('sha256').update(text).digest('hex')}`;
    chain.push(below === undefined ? diffId : digest(`${below} ${diffId}`));
  }
  return chain;
}

/** Names of the layers' snapshots, lowest first, and what each Prepare took in ms. */
export async function prepareLayers(client: SnapshotsClient, image: string, facts: ImageFacts): Promise<number[]> {
  const chain = chainIds(facts.diffIds);
  const times: number[] = [];
  let parent = '';
  for (const [i, chainId] of chain.entries()) {
    const labels = {
      'containerd.io/snapshot.ref': chainId,
      'containerd.io/snapshot/cri.image-ref': image,
      'containerd.io/snapshot/cri.manifest-digest': facts.manifest,
      'containerd.io/snapshot/cri.layer-digest': facts.layers[i] ?? '',
    };
    const start = performance.now();
    if (!(await client.prepare(`extract-${i} ${chainId}`, parent, labels)))
      throw new Error(`layer ${i} was left to containerd`);
    times.push(performance.now() - start);
    parent = await client.named(chainId, parent);
  }
  return times;
}
