// A container that eight processes read all the time while something happens to who serves it, round after round: nobody is to notice.
import { createHash, randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'vitest';
import { ChecksumReader, summed } from './checksum-readers.ts';
import type { ReaderReport } from './checksum-readers.ts';
import type { Container } from './container.ts';
import type { PushedImage } from './container-image.ts';
import { SnapshotterWorld } from './snapshotter-world.ts';
import type { WorldOptions } from './snapshotter-world.ts';
import type { BuiltMember } from './tar-builder.ts';

export interface ReadContainerOptions {
  readonly transport: 'kernel' | 'native';
  readonly keeper: WorldOptions['keeper'];
  readonly env?: WorldOptions['env'];
  /** What happens → in how many rounds. */
  readonly rounds: Readonly<Record<string, number>>;
}

type FileSums = readonly (readonly [path: string, sha256: string])[];
interface RandomFiles {
  readonly members: readonly BuiltMember[];
  readonly sums: FileSums;
}

/** ms that the registry takes for an answer. */
const registryMs = 250;
/** For each of the two processes: more than it can read of what is not on the node. */
const missingPerRound = 6;
const spanSize = 65_536;

export class ReadContainer {
  readonly world: SnapshotterWorld;
  readonly image: PushedImage;
  readonly container: Container;
  /** Path of the container's root directory. */
  readonly root: string;
  /** Of files that are on the node. */
  readonly warm: FileSums;
  readonly #o: ReadContainerOptions;
  readonly #missing: ReadonlyMap<string, readonly FileSums[]>;
  readonly #readers: readonly ChecksumReader[];

  private constructor(
    parts: Pick<ReadContainer, 'world' | 'image' | 'container' | 'root' | 'warm'>,
    options: ReadContainerOptions,
    missing: ReadonlyMap<string, readonly FileSums[]>,
  ) {
    ({ world: this.world, image: this.image, container: this.container, root: this.root, warm: this.warm } = parts);
    this.#o = options;
    this.#missing = missing;
    this.#readers = Array.from({ length: 6 }, () => new ChecksumReader({ root: parts.root, files: parts.warm }));
  }

  static async start(options: ReadContainerOptions): Promise<ReadContainer> {
    const { transport, keeper, env, rounds } = options;
    const world = await SnapshotterWorld.start({
      keeper,
      env,
      config: () => ['[snapshotter]', `transport = "${transport}"`],
    });
    try {
      const warm = randomFiles('warm', 24, 4 * spanSize);
      const layers = Object.entries(rounds).map(([what, count], i) => ({
        what,
        files: [0, 1].map((reader) => randomFiles(`missing-${i}-${reader}`, missingPerRound * count, spanSize)),
      }));
      const members = layers.map(({ files }) => files.flatMap(({ members }) => members));
      const image = await world.image('app', [warm.members, ...members], { indexed: false });
      await world.index(image.reference, String(spanSize));
      await world.pull(image.reference);
      const container = await world.containerd.container(image.reference, ['sleep', '60000']);
      const root = `/proc/${await container.pid()}/root`;
      await new ChecksumReader({ root, files: warm.sums, once: true }).done();
      world.registry.front.interfere(
        ({ url }) => url?.includes('/blobs/') === true,
        (_request, _response, forward) => void setTimeout(forward, registryMs),
      );
      const missing = new Map(layers.map(({ what, files }) => [what, files.map(({ sums }) => sums)]));
      return new ReadContainer({ world, image, container, root, warm: warm.sums }, options, missing);
    } catch (error) {
      await world.close();
      throw error;
    }
  }

  /** Fails for every read that failed or gave other bytes. Prints the longest pause of a reader. */
  async unnoticed(what: string, happen: (round: number) => Promise<void>): Promise<void> {
    const { transport, rounds } = this.#o;
    const count = rounds[what] ?? 0;
    const now = async () => summed(await Promise.all(this.#readers.map(async (reader) => await reader.report())));
    await now();
    const files = this.#missing.get(what) ?? [];
    const missing = files.map((sums) => new ChecksumReader({ root: this.root, files: sums, once: true }));
    let reports: readonly (readonly [kind: string, ReaderReport])[] = [];
    try {
      for (let round = 0; round < count; round += 1) {
        await delay(Math.random() * 300);
        await happen(round);
      }
    } finally {
      const others = summed(await Promise.all(missing.map(async (reader) => await reader.end())));
      reports = [
        ['that are cached', await now()],
        ['that are not', others],
      ];
    }
    for (const [kind, { reads, failed, wrong, longest }] of reports) {
      const told = `${reads} files ${kind}, ${failed.length} failed, ${wrong.length} wrong, longest pause ${Math.round(longest * 1000)} ms`;
      console.info(`${transport}: ${count} × ${what}: ${told}`);
    }
    expect(reports.map(([, { failed, wrong }]) => ({ failed, wrong }))).toEqual(
      reports.map(() => ({ failed: [], wrong: [] })),
    );
    for (const [kind, { reads }] of reports) expect(reads, kind).toBeGreaterThan(count / 4);
  }

  /** Mount points that are left; none, unless something went wrong. */
  async close(): Promise<readonly string[]> {
    await Promise.all(this.#readers.map(async (reader) => await reader.end()));
    await this.container.remove();
    return await this.world.close();
  }
}

function randomFiles(folder: string, count: number, size: number): RandomFiles {
  const made = Array.from({ length: count }, (_, i) => {
    const data = randomBytes(size);
    const name = `${folder}/${i}`;
    return { member: { name, data }, sum: [name, createHash('sha256').update(data).digest('hex')] as const };
  });
  return { members: made.map(({ member }) => member), sums: made.map(({ sum }) => sum) };
}
