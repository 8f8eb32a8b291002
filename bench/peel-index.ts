import { createHash } from 'node:crypto';
import { readdirSync, statSync, writeFileSync } from 'node:fs';
import { CountedRegistry } from './support/counted-registry.ts';
import { type Fixture, programs } from './support/fixture.ts';
import { dropCaches, output, scale, shell, workDir } from './support/machine.ts';
import { Peel } from './support/peel.ts';
import { type Figure, median, type Question, type Ratio } from './support/result.ts';
import { type Usage, usageOf } from './support/usage.ts';

type Format = 'peel' | 'soci';

const sizes = [300, 2000];
const shares = [2, 10, 30];
const sociIndex = 'SOCI index, spans of 4 MiB';

interface Mounted {
  /** ms until the mount stands and a first byte was read. */
  readonly ms: number;
  /** Bytes that came until the mount stood. */
  readonly opening: number;
  /** Until the first byte was read. */
  readonly first: number;
  /** From then on, for all files. */
  readonly reading: number;
}

/** One image in a registry, once with each index. */
class Contest {
  readonly #registry: CountedRegistry;
  readonly #references = new Map<Format, string>();
  readonly #files: readonly string[];

  private constructor(registry: CountedRegistry, input: Fixture) {
    this.#registry = registry;
    this.#files = readdirSync(input.unpacked, { recursive: true, encoding: 'utf8', withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => `${entry.parentPath}/${entry.name}`.slice(input.unpacked.length))
      .sort();
  }

  static async prepare(registry: CountedRegistry, input: Fixture, name: string): Promise<Contest> {
    const contest = new Contest(registry, input);
    for (const format of ['peel', 'soci'] as const) {
      const reference = await registry.hold(input.layout, `${name}-${format}`);
      contest.#references.set(format, reference);
      await new Peel('index-maker').cli('index', 'create', '--format', format, '--push', reference);
    }
    return contest;
  }

  /** Mounts on a node that has nothing, reads a byte, then a share of the files (percent) whole. */
  async mount(format: Format, share: number): Promise<Mounted> {
    const peel = new Peel('index-reader');
    dropCaches();
    const before = await this.#registry.sent();
    const start = performance.now();
    const mounted = await peel.mounted(this.#references.get(format) ?? '', 'auto', async (dir) => {
      const opening = await this.#registry.sent();
      await output('head', ['-c', '1', `${dir}${this.#files[this.#files.length >> 1] ?? ''}`]);
      const ms = performance.now() - start;
      const first = await this.#registry.sent();
      await shell(`cd ${dir} && xargs -0 -a ${this.#chosen(share)} cat >/dev/null`);
      return { ms, opening: opening - before, first: first - before, reading: (await this.#registry.sent()) - first };
    });
    peel.forget();
    return mounted;
  }

  /** Path of a list of `share` percent of the files, here and there. */
  #chosen(share: number): string {
    const list = `${workDir}/chosen-files`;
    const chosen = this.#files.filter(
      (file) => createHash('sha256').update(file).digest().readUInt16BE(0) % 100 < share,
    );
    writeFileSync(list, chosen.map((file) => `.${file}\0`).join(''));
    return list;
  }
}

/** Both indexes of one layer: their size and what making them takes. */
async function building(input: Fixture, name: string): Promise<(Ratio | Figure)[]> {
  const maker = new Peel('index-maker');
  const make = async (format: string) => {
    maker.forget();
    return await usageOf(maker, 'index', 'create', '--format', format, input.image);
  };
  const both: Usage[] = [];
  const alone: Usage[] = [];
  for (let round = 0; round < 3; round++) {
    both.push(await make('both'));
    alone.push(await make('soci'));
  }
  const middle = (pick: (usage: Usage) => number) => ({
    ours: median(both.map(pick)),
    baseline: median(alone.map(pick)),
  });
  const cpu = middle((usage) => usage.cpu);
  const time = middle((usage) => usage.time);
  const stream = Number(await shell(`gzip -dc ${input.layer} | wc -c`)) / 1e6;
  maker.forget();
  const made = await maker.cli('--json', 'index', 'create', '--format', 'both', input.image);
  const { peel, ztoc } = indexSizes(made);
  const layer = statSync(input.layer).size;
  return [
    { what: `${name}: peel index by its layer`, unit: '%', ours: (peel / layer) * 100, aim: '<= 2' },
    { what: `${name}: index size`, unit: 'MB', ours: peel / 1e6, baseline: ztoc / 1e6, against: sociIndex },
    { what: `${name}: CPU time for both`, unit: 's', ...cpu, against: 'zTOC alone', aim: '<= 1.4x' },
    {
      what: `${name}: index create, both`,
      unit: 'MB/s',
      ours: stream / time.ours,
      baseline: stream / time.baseline,
      against: 'zTOC alone',
    },
  ];
}

interface Made {
  readonly layers: readonly {
    readonly peel: { readonly tableSize?: number; readonly windowsSize?: number };
    readonly soci: { readonly ztocSize?: number };
  }[];
}

/** Bytes of each index, as `peel index create --json` tells. */
function indexSizes(json: string): { peel: number; ztoc: number } {
  const sizes = { peel: 0, ztoc: 0 };
  for (const { peel, soci } of (JSON.parse(json) as Made[]).flatMap(({ layers }) => layers)) {
    sizes.peel += (peel.tableSize ?? 0) + (peel.windowsSize ?? 0);
    sizes.ztoc += soci.ztocSize ?? 0;
  }
  return sizes;
}

export const peelIndex: Question = {
  name: 'index',
  asks: 'how large is the peel index, what does making it take, and how many bytes does a reader fetch by it, against the SOCI format?',
  async run() {
    const rows: (Ratio | Figure)[] = [];
    for (const megabytes of sizes) {
      const name = `${megabytes} MB`;
      const input = await programs(Math.ceil(megabytes * scale));
      rows.push(...(await building(input, name)));
      const registry = await CountedRegistry.start();
      try {
        const contest = await Contest.prepare(registry, input, `layer-${megabytes}`);
        rows.push(...(await reading(contest, name)));
      } finally {
        await registry.close();
      }
    }
    return rows;
  },
};

async function reading(contest: Contest, name: string): Promise<Ratio[]> {
  const mounts: Record<Format, Mounted[]> = { peel: [], soci: [] };
  const mount = async (format: Format, share: number) => {
    const mounted = await contest.mount(format, share);
    mounts[format].push(mounted);
    return mounted;
  };
  const rows: Ratio[] = [];
  for (const share of shares) {
    const [peel, sociFormat] = [await mount('peel', share), await mount('soci', share)];
    rows.push({
      what: `${name}: bytes fetched for ${share} % of the files`,
      unit: 'MB',
      ours: peel.reading / 1e6,
      baseline: sociFormat.reading / 1e6,
      against: sociIndex,
      ...(share === 10 ? { aim: '<= 0.5x' } : {}),
    });
  }
  const middle = (pick: (mounted: Mounted) => number) => ({
    ours: median(mounts.peel.map(pick)),
    baseline: median(mounts.soci.map(pick)),
    against: sociIndex,
  });
  return [
    { what: `${name}: mount to first byte`, unit: 'ms', ...middle(({ ms }) => ms) },
    { what: `${name}: bytes to mount`, unit: 'MB', ...middle(({ opening }) => opening / 1e6), aim: '<= 0.2x' },
    { what: `${name}: bytes to the first byte`, unit: 'MB', ...middle(({ first }) => first / 1e6) },
    ...rows,
  ];
}
