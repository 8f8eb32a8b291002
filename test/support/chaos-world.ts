// A daemon that serves one lazy image of random files, over a registry that fails as it is told to, and processes that check what they read.
import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import type { StatusReport } from '../../src/daemon/status-report.ts';
import { archive } from './tar-builder.ts';
import { checkedReads } from './checked-reads.ts';
import type { CheckedReadsOptions } from './checked-reads.ts';
import { DaemonProcess } from './daemon-process.ts';
import { ImageLab, labLayer } from './image-lab.ts';
import type { LabImage } from './image-lab.ts';
import { PeelNode } from './peel-node.ts';
import { run } from './run.ts';

export interface ChaosOptions {
  /** Random files of the image, and bytes of each. */
  readonly files?: number | undefined;
  readonly fileSize?: number | undefined;
  readonly spanSize?: number | undefined;
  /** Of the configuration; e.g. `4s`. */
  readonly readDeadline?: string | undefined;
  /** More TOML. */
  readonly config?: string | undefined;
  /** Of the daemon. */
  readonly env?: Readonly<Record<string, string>> | undefined;
  /** Default one of the node's own. */
  readonly root?: string | undefined;
}

const quiet = '[fill]\nenabled = false\n[read_ahead]\nenabled = false\n';

export class ChaosWorld {
  readonly lab: ImageLab;
  readonly node: PeelNode;
  readonly image: LabImage;
  /** The image's files as they have to be. */
  readonly expected: string;
  readonly names: readonly string[];
  readonly #config: string;
  daemon: DaemonProcess;

  private constructor(
    parts: Pick<ChaosWorld, 'lab' | 'node' | 'image' | 'expected' | 'names' | 'daemon'>,
    config: string,
  ) {
    this.lab = parts.lab;
    this.node = parts.node;
    this.image = parts.image;
    this.expected = parts.expected;
    this.names = parts.names;
    this.daemon = parts.daemon;
    this.#config = config;
  }

  /** Closed when the test ends. */
  static async start(options: ChaosOptions = {}): Promise<ChaosWorld> {
    const { files = 32, fileSize = 128 * 1024, spanSize = 64 * 1024, readDeadline = '10s', config = quiet } = options;
    const lab = await ImageLab.start();
    const node = new PeelNode(options.root);
    onTestFinished(() => node.close());
    const expected = join(node.dir, 'expected');
    mkdirSync(expected);
    const names = Array.from({ length: files }, (_, i) => `f${i}`);
    const members = names.map((name) => ({ name, data: randomBytes(fileSize) }));
    for (const { name, data } of members) writeFileSync(join(expected, name), data);
    const image = await lab.push('app', [labLayer(archive(...members))]);
    await lab.pushIndex(image, { spanSize });
    const toml = `[read]\ndeadline = "${readDeadline}"\n${config}`;
    const daemon = await DaemonProcess.start(node, { config: toml, env: options.env });
    return new ChaosWorld({ lab, node, image, expected, names, daemon }, toml);
  }

  get front(): ImageLab['front'] {
    return this.lab.front;
  }

  /** The same daemon again, after it has ended. */
  async startAgain(): Promise<void> {
    this.daemon = await DaemonProcess.start(this.node, { config: this.#config });
  }

  /** On a new directory, which is returned. By digest: a mount asks nobody for what is here. */
  async mount(): Promise<string> {
    return await this.daemon.mount(this.image.byDigest);
  }

  async readers(dir: string, options: Partial<CheckedReadsOptions> = {}): ReturnType<typeof checkedReads> {
    return await checkedReads({ dir, expected: this.expected, ...options });
  }

  /** Whole files, in one process. Throws when one is not what it has to be, or cannot be read. */
  async check(dir: string, names: readonly string[] = this.names): Promise<void> {
    const { code, err, out } = await this.compare(dir, names);
    if (code !== 0) throw new Error(`${err}${out}`);
  }

  async compare(dir: string, names: readonly string[]): ReturnType<typeof run> {
    const script = 'dir=$0; right=$1; shift; for name; do cmp "$dir/$name" "$right/$name" || exit; done';
    return await run('sh', ['-c', script, dir, this.expected, ...names]);
  }

  async registries(): Promise<NonNullable<StatusReport['registries']>> {
    return (await this.daemon.status()).registries ?? [];
  }

  /** Bytes of the layer's stream that are in the cache. */
  async presentBytes(): Promise<number> {
    const { mounts } = await this.daemon.status();
    return Math.max(0, ...mounts.flatMap(({ serving }) => serving.map(({ presentBytes = 0 }) => presentBytes)));
  }

  /** Values of the daemon's log lines with that message. */
  logged(message: string): readonly string[] {
    return this.daemon.log.split('\n').filter((line) => line.includes(`"msg":"${message}`));
  }
}
