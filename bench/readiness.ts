import { rmSync } from 'node:fs';
import { DelayedLink } from './support/delayed-link.ts';
import { cli, output, scale, seconds, shell, workDir } from './support/machine.ts';
import { type ReadinessImage, readinessImage, touchPercents } from './support/readiness-image.ts';
import {
  containerd,
  eager,
  lazy,
  rightAnswer,
  type Start,
  startOnce,
  type Subject,
  withoutReadAhead,
  withProfile,
} from './support/readiness-start.ts';
import { type Figure, median, type Question, type Ratio, type RunOptions } from './support/result.ts';
import { type LinkRate, ShapedRegistry } from './support/shaped-registry.ts';

interface Cells {
  readonly megabytes: readonly number[];
  readonly percents: readonly number[];
  readonly rates: readonly LinkRate[];
}

const usual: Cells = { megabytes: [300], percents: [10, 100], rates: ['1gbit', 'unshaped'] };
const all: Cells = { megabytes: [300, 2000], percents: touchPercents, rates: ['100mbit', '1gbit', 'unshaped'] };
const roundTripsMs = [0, 20];
const usualRounds = 3;
/** Before the first byte of a layer can come: the connection, the manifest, and what it names. */
const roundTripsNeeded = 3;
const store = `${workDir}/shaped-store`;
const pushEnv = { PEEL_ROOT: `${workDir}/push-root`, PEEL_RUN_DIR: `${workDir}/push-run` };

interface Cell {
  readonly image: ReadinessImage;
  readonly percent: number;
  readonly rate: LinkRate;
  readonly roundTripMs: number;
  readonly rounds: number;
  readonly reference: string;
  readonly rightAnswer: string;
  /** Of the link, bytes per second. */
  readonly bandwidth: number;
}

class Readiness {
  readonly #registry: ShapedRegistry;
  readonly #options: RunOptions;
  readonly #rows: (Ratio | Figure)[] = [];

  constructor(registry: ShapedRegistry, options: RunOptions) {
    this.#registry = registry;
    this.#options = options;
  }

  /** With `full`: the cells that are left out without. */
  async run(): Promise<readonly (Ratio | Figure)[]> {
    const cells = this.#options.full ? all : usual;
    for (const megabytes of cells.megabytes) {
      const image = await readinessImage(Math.ceil(megabytes * scale));
      for (const percent of cells.percents) await this.#push(image, percent);
      for (const rate of cells.rates) {
        const isUsual = usual.megabytes.includes(megabytes) && usual.rates.includes(rate);
        const percents =
          this.#options.full && isUsual
            ? all.percents.filter((each) => !usual.percents.includes(each))
            : cells.percents;
        for (const roundTripMs of roundTripsMs)
          await this.#link(image, percents, { rate, roundTripMs, rounds: isUsual ? usualRounds : 1 });
      }
      await this.#registry.limit('unshaped');
    }
    return this.#rows;
  }

  async #push(image: ReadinessImage, percent: number): Promise<void> {
    const reference = this.#reference(this.#registry.host, image, percent);
    const peel = (...args: readonly string[]): Promise<string> =>
      output(process.execPath, [cli, ...args], { ...pushEnv, PEEL_CERTS_DIR: this.#registry.certsDir });
    await peel('copy', `oci:${image.layout}:touch-${percent}`, reference);
    await peel('index', 'create', '--push', reference);
    if (!this.#options.profile) return;
    await peel('record', reference);
    await peel('profile', 'push', reference);
  }

  #reference(host: string, image: ReadinessImage, percent: number): string {
    return `${host}/bench/readiness-${image.megabytes}:touch-${percent}`;
  }

  async #link(
    image: ReadinessImage,
    percents: readonly number[],
    { rate, roundTripMs, rounds }: Pick<Cell, 'rate' | 'roundTripMs' | 'rounds'>,
  ): Promise<void> {
    const registry = this.#registry;
    await registry.limit(rate);
    const link = await DelayedLink.start(registry, roundTripMs);
    try {
      const bandwidth = await this.#bandwidth(image);
      const answerMs = await link.answerMs();
      process.stderr.write(
        `  ${rate}, ${roundTripMs} ms: ${Math.round(bandwidth / 1e6)} MB/s, an answer after ${answerMs.toFixed(1)} ms\n`,
      );
      if (answerMs < roundTripMs) throw new Error(`the link answers after ${answerMs} ms, before ${roundTripMs} ms`);
      const unpacked = new Map<Subject, Start>();
      for (const percent of percents) {
        const reference = this.#reference(link.host, image, percent);
        const answer = await rightAnswer(image, percent);
        const cell = { image, percent, rate, roundTripMs, rounds, reference, rightAnswer: answer, bandwidth };
        // What takes minutes is unpacked once per link, for the smallest share: that is when it is ready first.
        await this.#cell(cell, rounds === 1 ? unpacked : new Map());
      }
    } finally {
      await link.close();
    }
  }

  /** Of the registry and the link with no round trip, all blobs of the layers at once. */
  async #bandwidth(image: ReadinessImage): Promise<number> {
    const path = `${this.#registry.host}/v2/bench/readiness-${image.megabytes}`;
    const urls = image.layers.map((digest) => `http://${path}/blobs/${digest}`);
    const fetchAll = (): Promise<unknown> =>
      shell(`printf '%s\\n' ${urls.join(' ')} | xargs -P 8 -n 1 curl -sf >/dev/null`);
    // The first time the registry reads its disk.
    await fetchAll();
    return image.compressed / (await seconds(fetchAll));
  }

  /** `unpacked`: starts that need not be measured again; gets those that were. */
  async #cell(cell: Cell, unpacked: Map<Subject, Start>): Promise<void> {
    const subjects = [
      lazy,
      ...(this.#options.full ? [] : [withoutReadAhead]),
      ...(this.#options.profile ? [withProfile] : []),
    ];
    const seen = new Map<Subject, Start[]>();
    const start = async (subject: Subject): Promise<Start> => {
      const started = await startOnce(subject, { ...cell, registry: this.#registry, store });
      tell(cell, subject, started);
      return started;
    };
    for (let round = 0; round < cell.rounds; round += 1)
      for (const subject of subjects) seen.set(subject, [...(seen.get(subject) ?? []), await start(subject)]);
    for (const subject of [eager, containerd]) {
      const known = unpacked.get(subject) ?? (await start(subject));
      unpacked.set(subject, known);
      seen.set(subject, [known]);
    }
    this.#rows.push(...rowsOf(cell, subjects, seen));
  }
}

function tell({ percent, rate, roundTripMs }: Cell, { name }: Subject, start: Start): void {
  const ms = (value: number): string => String(Math.round(value));
  process.stderr.write(
    `  ${percent} %, ${rate}, ${roundTripMs} ms, ${name}: ${ms(start.ready)} ms (pull ${ms(start.pull)}, boot ${ms(start.boot)}, reads ${ms(start.reads)}), again ${ms(start.warm)}, ${(start.sent / 1e6).toFixed(1)} MB\n`,
  );
}

function rowsOf(cell: Cell, subjects: readonly Subject[], seen: ReadonlyMap<Subject, Start[]>): (Ratio | Figure)[] {
  const of = (subject: Subject, value: (start: Start) => number): number =>
    median((seen.get(subject) ?? []).map(value));
  const ready = (subject: Subject): number => of(subject, (start) => start.ready);
  const best = ready(eager) <= ready(containerd) ? eager : containerd;
  const touched = cell.image.touches.get(cell.percent)?.compressed ?? 0;
  const warm = Math.min(...[...seen.values()].flat().map((start) => start.warm));
  const floor = (touched / cell.bandwidth) * 1000 + roundTripsNeeded * cell.roundTripMs + warm;
  const where = `${cell.image.megabytes} MB, ${cell.percent} %, ${cell.rate}, ${cell.roundTripMs} ms`;
  const rows: (Ratio | Figure)[] = [];
  for (const subject of subjects) {
    const what = `${where}: ${subject.name}`;
    const ours = ready(subject);
    const aim = subject === withoutReadAhead ? {} : { aim: '<= 1.05x' };
    rows.push(
      { what, unit: 'ms', ours, baseline: ready(best), against: best.name, ...aim },
      { what, unit: 'ms', ours, baseline: floor, against: 'floor', ...floorAim(cell, subject) },
      {
        what: `${what}, over the link`,
        unit: 'MB',
        ours: of(subject, (start) => start.sent) / 1e6,
        baseline: touched / 1e6,
        against: 'what was touched',
      },
      {
        what: `${what}, beyond what was touched`,
        unit: 'MB',
        ours: of(subject, (start) => start.sent - touched) / 1e6,
      },
      ...readAheadRows(what, seen.get(subject) ?? []),
    );
  }
  rows.push({
    what: `${where}: peel, eager`,
    unit: 'ms',
    ours: ready(eager),
    baseline: ready(containerd),
    against: containerd.name,
  });
  return rows;
}

function floorAim(cell: Cell, subject: Subject): { aim?: string } {
  if (cell.percent !== 2 || cell.rate !== '1gbit' || subject === withoutReadAhead) return {};
  return { aim: subject === withProfile ? '<= 1.5x' : '<= 3x' };
}

function readAheadRows(what: string, starts: readonly Start[]): Figure[] {
  const counted = starts.flatMap(({ readAhead }) => (readAhead === undefined ? [] : [readAhead]));
  const fetched = counted.reduce((sum, start) => sum + start.fetched, 0);
  if (fetched === 0) return [];
  const used = counted.reduce((sum, start) => sum + start.used, 0);
  return [{ what: `${what}, read-ahead that was read`, unit: '%', ours: (100 * used) / fetched, aim: '>= 50' }];
}

export const readiness: Question = {
  name: 'readiness',
  asks: 'from nothing on the node, how long until the answer of a container that reads a share of its image, lazily and unpacked first?',
  async run(options) {
    const folders = [store, pushEnv.PEEL_ROOT, pushEnv.PEEL_RUN_DIR];
    const clear = (): void => folders.forEach((folder) => rmSync(folder, { recursive: true, force: true }));
    clear();
    const registry = await ShapedRegistry.start(store);
    try {
      return await new Readiness(registry, options).run();
    } finally {
      await registry.close();
      clear();
    }
  },
};
