import { mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { ContainerNode } from './support/container-node.ts';
import { type Fixture, mixedLayers } from './support/fixture.ts';
import { cli, dropCaches, output, peakResident, scale, seconds, shell, workDir } from './support/machine.ts';
import { allInTurn, type Figure, type Question, type Ratio } from './support/result.ts';
import { type LinkRate, ShapedRegistry } from './support/shaped-registry.ts';

interface Image {
  readonly name: string;
  readonly layers: number;
  /** For peel's time by that of containerd. */
  readonly aim: string;
}

const megabytes = Math.ceil(1000 * scale);
const images: readonly Image[] = [
  { name: 'one layer', layers: 1, aim: '<= 0.4x' },
  { name: '20 layers', layers: 20, aim: '<= 0.5x' },
];
/** How often each is measured: a link has less to say from one time to the next. */
const rounds: Readonly<Partial<Record<LinkRate, number>>> = { unshaped: 3, '1gbit': 1 };
const store = `${workDir}/shaped-store`;
const target = `${workDir}/unpacked-elsewhere`;

/** One image in the registry, to be pulled in several ways, each from nothing on the node. */
class Pulls {
  readonly #registry: ShapedRegistry;
  readonly #reference: string;
  readonly #input: Fixture;
  /** The largest resident sets, bytes. */
  readonly memory = { peel: 0, containerd: 0 };

  constructor(registry: ShapedRegistry, reference: string, input: Fixture) {
    this.#registry = registry;
    this.#reference = reference;
    this.#input = input;
  }

  async peel(): Promise<number> {
    const node = await ContainerNode.start(this.#registry, 'eager');
    try {
      const time = await this.#timed(() => node.pull('peel', this.#reference));
      const deferrals = await node.deferrals();
      // Of what containerd unpacked the figure would say nothing.
      if (Object.values(deferrals).some((count) => count > 0))
        throw new Error(`layers were deferred: ${JSON.stringify(deferrals)}`);
      this.memory.peel = Math.max(this.memory.peel, peakResident(node.daemonPid));
      return time;
    } finally {
      await node.close();
    }
  }

  async containerd(): Promise<number> {
    const node = await ContainerNode.start(this.#registry, 'defer');
    try {
      const time = await this.#timed(() => node.pull('overlayfs', this.#reference));
      this.memory.containerd = Math.max(this.memory.containerd, peakResident(node.containerdPid));
      return time;
    } finally {
      await node.close();
    }
  }

  async umoci(): Promise<number> {
    return await this.#timed(() =>
      shell(`skopeo copy --quiet --src-tls-verify=false docker://${this.#reference} oci:${target}/image:latest
        umoci unpack --image ${target}/image:latest ${target}/bundle >/dev/null 2>&1`),
    );
  }

  /** Every layer into one directory; with one layer, what cannot be done with less. */
  async tar(): Promise<number> {
    const lines = this.#urls().map((url) => `curl -sf ${url} | tar xz -C ${target}/tree`);
    return await this.#timed(() => shell(`mkdir ${target}/tree\n${lines.join('\n')}`));
  }

  /** The slower of the network, which brings the compressed layers, and of the disk, which takes the files. */
  async floor(): Promise<number> {
    const network = await this.#timed(() => shell(`curl -sf ${this.#urls().join(' ')} >/dev/null`));
    const bytes = (await shell(`du -s --apparent-size --block-size=1 ${this.#input.unpacked}`)).split('\t')[0] ?? '';
    const blocks = Math.ceil(Number(bytes) / (1 << 20));
    const disk = await this.#timed(() =>
      shell(`dd if=/dev/zero of=${target}/zeros bs=1M count=${blocks} conv=fdatasync status=none`),
    );
    return Math.max(network, disk);
  }

  /** ms, with nothing cached but what the registry serves, which would be another machine. */
  async #timed(work: () => Promise<unknown>): Promise<number> {
    rmSync(target, { recursive: true, force: true });
    mkdirSync(target, { recursive: true });
    dropCaches();
    await shell(`find ${store} -type f -exec cat {} + >/dev/null`);
    const time = (await seconds(work)) * 1000;
    rmSync(target, { recursive: true, force: true });
    return time;
  }

  #blobs(): string[] {
    const folder = `${this.#input.layout}/blobs/sha256`;
    // The others are the configuration and the manifest.
    const isLayer = (name: string): boolean => statSync(`${folder}/${name}`).nlink > 1;
    return readdirSync(folder)
      .filter(isLayer)
      .map((name) => `${folder}/${name}`);
  }

  #urls(): string[] {
    const [host = '', ...path] = this.#reference.replace(/:[^/:]*$/, '').split('/');
    const digest = (blob: string): string => `sha256:${blob.slice(blob.lastIndexOf('/') + 1)}`;
    return this.#blobs().map((blob) => `http://${host}/v2/${path.join('/')}/blobs/${digest(blob)}`);
  }
}

async function compare(pulls: Pulls, image: Image, rate: LinkRate): Promise<(Ratio | Figure)[]> {
  const tell =
    (name: string, pull: () => Promise<number>): (() => Promise<number>) =>
    async () => {
      const time = await pull();
      process.stderr.write(`  ${image.name}, ${rate}, ${name}: ${Math.round(time)} ms\n`);
      return time;
    };
  const [ours = 0, containerd = 0, umoci = 0, tar = 0, floor = 0] = await allInTurn(rounds[rate] ?? 1, [
    tell('peel', () => pulls.peel()),
    tell('containerd', () => pulls.containerd()),
    tell('skopeo and umoci', () => pulls.umoci()),
    tell('curl and tar', () => pulls.tar()),
    tell('floor', () => pulls.floor()),
  ]);
  const what = `${image.name}, ${megabytes} MB, ${rate}: pull and unpack`;
  const unit = 'ms';
  return [
    { what, unit, ours, baseline: containerd, against: 'ctr image pull, overlayfs', aim: image.aim },
    { what, unit, ours, baseline: umoci, against: 'skopeo copy, umoci unpack' },
    { what, unit, ours, baseline: tar, against: 'curl | tar xz' },
    { what, unit, ours, baseline: floor, against: 'slower of network and disk', aim: '<= 1.3x' },
  ];
}

export const unpack: Question = {
  name: 'unpack',
  asks: 'how long until an image without an index is pulled and unpacked, and how much memory does that take?',
  async run() {
    rmSync(store, { recursive: true, force: true });
    const registry = await ShapedRegistry.start(store);
    const rows: (Ratio | Figure)[] = [];
    try {
      for (const image of images) {
        const input = await mixedLayers(image.layers, megabytes);
        const reference = `${registry.host}/bench/unpack-${image.layers}:latest`;
        await output(process.execPath, [cli, 'copy', input.image, reference], {
          PEEL_CERTS_DIR: registry.certsDir,
          PEEL_ROOT: `${workDir}/push-root`,
          PEEL_RUN_DIR: `${workDir}/push-run`,
        });
        const pulls = new Pulls(registry, reference, input);
        for (const rate of Object.keys(rounds) as LinkRate[]) {
          await registry.limit(rate);
          rows.push(...(await compare(pulls, image, rate)));
        }
        await registry.limit('unshaped');
        rows.push({
          what: `${image.name}: peak memory of the daemon`,
          unit: 'MB',
          ours: pulls.memory.peel / 1e6,
          baseline: pulls.memory.containerd / 1e6,
          against: 'containerd',
        });
      }
    } finally {
      await registry.close();
      for (const folder of [store, target, `${workDir}/push-root`, `${workDir}/push-run`])
        rmSync(folder, { recursive: true, force: true });
    }
    return rows;
  },
};
