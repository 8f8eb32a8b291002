import { createHash } from 'node:crypto';
import { readFileSync, rmSync } from 'node:fs';
import { ContainerNode } from './support/container-node.ts';
import { manyLayers } from './support/fixture.ts';
import { cli, output, residentAnonymous, workDir } from './support/machine.ts';
import type { Figure, Question } from './support/result.ts';
import { ShapedRegistry } from './support/shaped-registry.ts';
import { SnapshotsClient } from './support/snapshots-client.ts';

const layerCount = 100;
const containers = 500;

interface ImageFacts {
  readonly manifest: string;
  readonly layers: readonly string[];
  readonly diffIds: readonly string[];
}

function factsOf(layout: string): ImageFacts {
  const read = (digest: string): unknown =>
    JSON.parse(readFileSync(`${layout}/blobs/sha256/${digest.slice('sha256:'.length)}`, 'utf8'));
  const { manifests } = JSON.parse(readFileSync(`${layout}/index.json`, 'utf8')) as { manifests: { digest: string }[] };
  const manifest = manifests[0]?.digest ?? '';
  const { layers, config } = read(manifest) as { layers: { digest: string }[]; config: { digest: string } };
  const { rootfs } = read(config.digest) as { rootfs: { diff_ids: string[] } };
  return { manifest, layers: layers.map(({ digest }) => digest), diffIds: rootfs.diff_ids };
}

/** OCI image spec config.md, "Layer ChainID". */
function chainIds(diffIds: readonly string[]): string[] {
  const chain: string[] = [];
  for (const diffId of diffIds) {
    const below = chain.at(-1);
    const digest = (text: string): string => `sha256:${createHash('sha256').update(text).digest('hex')}`;
    chain.push(below === undefined ? diffId : digest(`${below} ${diffId}`));
  }
  return chain;
}

function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}

/** Names of the layers' snapshots, lowest first, and what each Prepare took in ms. */
async function prepareLayers(client: SnapshotsClient, image: string, facts: ImageFacts): Promise<number[]> {
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

export const snapshotterPrepare: Question = {
  name: 'snapshotter-prepare',
  asks: 'how long does a Prepare take, and how much memory does the daemon hold with 100 lazy layers?',
  async run() {
    const input = await manyLayers(layerCount);
    const store = `${workDir}/shaped-store`;
    rmSync(store, { recursive: true, force: true });
    const registry = await ShapedRegistry.start(store);
    const rows: Figure[] = [];
    try {
      const image = `${registry.host}/bench/layers:latest`;
      const env = {
        PEEL_CERTS_DIR: registry.certsDir,
        PEEL_ROOT: `${workDir}/push-root`,
        PEEL_RUN_DIR: `${workDir}/push-run`,
      };
      await output(process.execPath, [cli, 'copy', input.image, image], env);
      await output(process.execPath, [cli, 'index', 'create', '--min-layer-size', '0', '--push', image], env);
      const node = await ContainerNode.start(registry);
      try {
        const client = await SnapshotsClient.connect(node.snapshotterSocket);
        const facts = factsOf(input.layout);
        const cold = await prepareLayers(client, image, facts);
        const memory = residentAnonymous(node.daemonPid);
        const top = await client.named(chainIds(facts.diffIds).at(-1) ?? '', undefined);
        const started: number[] = [];
        for (let i = 0; i < containers; i += 1) {
          const start = performance.now();
          await client.prepare(`container-${i}`, top, {});
          started.push(performance.now() - start);
        }
        // Shown by no snapshot any more, and still on the node: what a second pull of the image finds.
        for (let i = 0; i < containers; i += 1) await client.remove(`container-${i}`);
        for (const name of await client.chain(top)) await client.remove(name);
        const warm = await prepareLayers(client, image, facts);
        for (const [what, times] of [
          ['layer, first pull', cold],
          ['layer, index and tree on the node', warm],
          [`container over ${layerCount} layers`, started],
        ] as const) {
          rows.push({ what: `Prepare of a ${what}, p50`, unit: 'ms', ours: percentile(times, 0.5) });
          rows.push({ what: `Prepare of a ${what}, p99`, unit: 'ms', ours: percentile(times, 0.99) });
        }
        rows.push({ what: `RssAnon of the daemon, ${layerCount} lazy layers`, unit: 'MB', ours: memory / 1e6 });
        client.close();
      } finally {
        await node.close();
      }
    } finally {
      await registry.close();
      for (const folder of [store, `${workDir}/push-root`, `${workDir}/push-run`])
        rmSync(folder, { recursive: true, force: true });
    }
    return rows;
  },
};
