import { rmSync } from 'node:fs';
import { type ContainerImage, demoContainer, gigabyteContainer } from './support/container-images.ts';
import { ContainerNode } from './support/container-node.ts';
import { cli, dropCaches, output, workDir } from './support/machine.ts';
import { type Figure, type Question, type Ratio, inTurn, median } from './support/result.ts';
import { type LinkRate, ShapedRegistry } from './support/shaped-registry.ts';

type Snapshotter = 'peel' | 'overlayfs';

interface Start {
  /** ms from the pull to the answer of a container, nothing cached. */
  readonly cold: number;
  /** ms from the start of a second container to its answer. */
  readonly warm: number;
  /** Bytes through the link until the first answer. */
  readonly bytes: number;
}

const rates: readonly LinkRate[] = ['100mbit', '1gbit', 'unshaped'];

async function startOnce(registry: ShapedRegistry, snapshotter: Snapshotter, image: string): Promise<Start> {
  const node = await ContainerNode.start(registry);
  try {
    dropCaches();
    const sent = await registry.sent();
    const cold = await timed(async () => {
      await node.pull(snapshotter, image);
      check(await node.run(snapshotter, image));
    });
    const bytes = (await registry.sent()) - sent;
    const warm = await timed(async () => check(await node.run(snapshotter, image)));
    return { cold, warm, bytes };
  } finally {
    await node.close();
  }
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

function check(text: string): void {
  if (!text.startsWith('answer 42')) throw new Error(`the container did not answer: ${text.slice(0, 200)}`);
}

async function compare(registry: ShapedRegistry, image: ContainerImage, rate: LinkRate): Promise<Ratio[]> {
  const reference = `${registry.host}/bench/${image.name}:demo`;
  const seen = new Map<Snapshotter, Start[]>([
    ['peel', []],
    ['overlayfs', []],
  ]);
  const one = (snapshotter: Snapshotter) => async (): Promise<number> => {
    const start = await startOnce(registry, snapshotter, reference);
    process.stderr.write(`  ${image.name}, ${rate}, ${snapshotter}: ${Math.round(start.cold)} ms\n`);
    seen.get(snapshotter)?.push(start);
    return start.cold;
  };
  // A gigabyte at 100 Mbit/s takes a minute and a half; the link, not the machine, is what is measured there.
  const cold = await inTurn(rate === '100mbit' ? 1 : 3, one('peel'), one('overlayfs'));
  const of = (snapshotter: Snapshotter, key: keyof Start): number =>
    median((seen.get(snapshotter) ?? []).map((start) => start[key]));
  const what = `${image.name} (${Math.round(image.bytes / 1e6)} MB), ${rate}`;
  const against = 'containerd, overlayfs';
  const aim = image.name === 'gigabyte' && rate === '1gbit' ? '<= 0.2x' : '<= 1x';
  return [
    { what: `${what}: pull to answer`, unit: 'ms', ...cold, against, aim },
    {
      what: `${what}: second start`,
      unit: 'ms',
      ours: of('peel', 'warm'),
      baseline: of('overlayfs', 'warm'),
      against,
      aim: '<= 1x',
    },
    {
      what: `${what}: over the link`,
      unit: 'MB',
      ours: of('peel', 'bytes') / 1e6,
      baseline: of('overlayfs', 'bytes') / 1e6,
      against,
    },
  ];
}

export const containerStart: Question = {
  name: 'container-start',
  asks: 'from nothing on the node, how long until a container answers, with peel and with overlayfs?',
  async run() {
    const store = `${workDir}/shaped-store`;
    rmSync(store, { recursive: true, force: true });
    const registry = await ShapedRegistry.start(store);
    const rows: (Ratio | Figure)[] = [];
    try {
      for (const image of [await demoContainer(), await gigabyteContainer()]) {
        const reference = `${registry.host}/bench/${image.name}:demo`;
        const env = {
          PEEL_CERTS_DIR: registry.certsDir,
          PEEL_ROOT: `${workDir}/push-root`,
          PEEL_RUN_DIR: `${workDir}/push-run`,
        };
        await output(process.execPath, [cli, 'copy', `oci:${image.layout}:demo`, reference], env);
        await output(process.execPath, [cli, 'index', 'create', '--push', reference], env);
        for (const rate of rates) {
          await registry.limit(rate);
          rows.push(...(await compare(registry, image, rate)));
        }
        await registry.limit('unshaped');
      }
    } finally {
      await registry.close();
      for (const folder of [store, `${workDir}/push-root`, `${workDir}/push-run`])
        rmSync(folder, { recursive: true, force: true });
    }
    return rows;
  },
};
