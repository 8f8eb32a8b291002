// A daemon that serves lazy images of random files, over a registry that fails as it is told to, and processes that check what they read.
import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import type { StatusReport } from '../../src/daemon/status-report.ts';
import { checkedReads } from './checked-reads.ts';
import type { CheckedReadsOptions } from './checked-reads.ts';
import { DaemonProcess } from './daemon-process.ts';
import { ImageLab, labLayer } from './image-lab.ts';
import type { LabImage } from './image-lab.ts';
import { PeelNode } from './peel-node.ts';
import { run } from './run.ts';
import { archive } from './tar-builder.ts';

export interface ChaosOptions {
  /** Of the configuration; e.g. `4s`. */
  readonly readDeadline?: string | undefined;
  /** Of the daemon. */
  readonly env?: Readonly<Record<string, string>> | undefined;
  /** Default one of the node's own. */
  readonly root?: string | undefined;
}

export interface FilesOptions {
  /** Random files of an image, and bytes of each. */
  readonly files?: number | undefined;
  readonly fileSize?: number | undefined;
  readonly spanSize?: number | undefined;
}

const quiet = '[fill]\nenabled = false\n[read_ahead]\nenabled = false\n';

/** A mounted image, and its files as they have to be. */
export class ChaosMount {
  readonly image: LabImage;
  readonly dir: string;
  readonly expected: string;
  readonly names: readonly string[];

  constructor(parts: Pick<ChaosMount, 'image' | 'dir' | 'expected' | 'names'>) {
    this.image = parts.image;
    this.dir = parts.dir;
    this.expected = parts.expected;
    this.names = parts.names;
  }

  async readers(options: Partial<CheckedReadsOptions> = {}): ReturnType<typeof checkedReads> {
    return await checkedReads({ dir: this.dir, expected: this.expected, ...options });
  }

  /** Whole files, in one process. Throws when one is not what it has to be, or cannot be read. */
  async check(names: readonly string[] = this.names, dir = this.dir): Promise<void> {
    const { code, err, out } = await this.compare(names, dir);
    if (code !== 0) throw new Error(`${err}${out}`);
  }

  async compare(names: readonly string[], dir = this.dir): ReturnType<typeof run> {
    const script = 'dir=$0; right=$1; shift; for name; do cmp "$dir/$name" "$right/$name" || exit; done';
    return await run('sh', ['-c', script, dir, this.expected, ...names]);
  }
}

export class ChaosWorld {
  readonly lab: ImageLab;
  readonly node: PeelNode;
  readonly #config: string;
  readonly #env: ChaosOptions['env'];
  #images = 0;
  daemon: DaemonProcess;

  private constructor(lab: ImageLab, node: PeelNode, daemon: DaemonProcess, config: string, env: ChaosOptions['env']) {
    this.lab = lab;
    this.node = node;
    this.daemon = daemon;
    this.#config = config;
    this.#env = env;
  }

  /** Closed when the test ends. */
  static async start({ readDeadline = '20s', env, root }: ChaosOptions = {}): Promise<ChaosWorld> {
    const lab = await ImageLab.start();
    const node = new PeelNode(root);
    onTestFinished(() => node.close());
    const config = `[read]\ndeadline = "${readDeadline}"\n${quiet}`;
    return new ChaosWorld(lab, node, await DaemonProcess.start(node, { config, env }), config, env);
  }

  get front(): ImageLab['front'] {
    return this.lab.front;
  }

  /** The same daemon again, after it has ended. */
  async startAgain(): Promise<void> {
    this.daemon = await DaemonProcess.start(this.node, { config: this.#config, env: this.#env });
  }

  /** Of an image that nobody has read yet. By digest: a mount asks nobody for what is here. */
  async mount({ files = 32, fileSize = 128 * 1024, spanSize = 64 * 1024 }: FilesOptions = {}): Promise<ChaosMount> {
    const expected = join(this.node.dir, `expected-${(this.#images += 1)}`);
    mkdirSync(expected);
    const names = Array.from({ length: files }, (_, i) => `f${i}`);
    const members = names.map((name) => ({ name, data: randomBytes(fileSize) }));
    for (const { name, data } of members) writeFileSync(join(expected, name), data);
    const image = await this.lab.push(`app-${this.#images}`, [labLayer(archive(...members))]);
    await this.lab.pushIndex(image, { spanSize });
    return new ChaosMount({ image, expected, names, dir: await this.daemon.mount(image.byDigest) });
  }

  async registries(): Promise<NonNullable<StatusReport['registries']>> {
    return (await this.daemon.status()).registries ?? [];
  }

  /** Of the stream of the mount's layer, in the cache. */
  async presentBytes({ dir }: Pick<ChaosMount, 'dir'>): Promise<number> {
    const { mounts } = await this.daemon.status();
    return mounts.find((mount) => mount.dir === dir)?.serving[0]?.presentBytes ?? 0;
  }

  /** The daemon's log lines with that message. */
  logged(message: string): readonly string[] {
    return this.daemon.log.split('\n').filter((line) => line.includes(`"msg":"${message}`));
  }
}
