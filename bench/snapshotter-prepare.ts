import { rmSync } from 'node:fs';
import { ContainerNode } from './support/container-node.ts';
import { manyLayers } from './support/fixture.ts';
import { cli, output, residentAnonymous, workDir } from './support/machine.ts';
import { chainIds, factsOf, prepareLayers } from './support/prepared-layers.ts';
import type { Figure, Question } from './support/result.ts';
import { ShapedRegistry } from './support/shaped-registry.ts';
import { SnapshotsClient } from './support/snapshots-client.ts';

const layerCount = 100;
const containers = 500;

function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
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
