// A registry, `peel daemon` and a containerd whose snapshotter it is.
import { setTimeout as delay } from 'node:timers/promises';
import { onTestFailed } from 'vitest';
import type { Registry } from '../../src/registry/registry.ts';
import { type PushedImage, memberLayer, pushContainerImage, shellLayer } from './container-image.ts';
import { Containerd } from './containerd.ts';
import { PeelDaemon } from './peel-daemon.ts';
import { PeelNode } from './peel-node.ts';
import type { BuiltMember } from './tar-builder.ts';
import { TestRegistry } from './test-registry.ts';

export interface WorldOptions {
  /** Lines of the daemon's configuration. */
  readonly config?: ((containerd: Containerd, daemon: PeelDaemon) => readonly string[]) | undefined;
  /** Lines of its table `unpack`, behind the address of containerd. */
  readonly unpack?: readonly string[] | undefined;
  /** The daemon's file descriptors outlive it: with a keeper of their own, or with one that is its parent. */
  readonly keeper?: 'alone' | 'parent' | undefined;
  /** Of the daemon, and of a keeper that is its parent. */
  readonly env?: Readonly<Record<string, string>> | undefined;
  /** What the registry has, at a folder of its own. */
  readonly store?: ((dir: string) => Promise<Registry>) | undefined;
}

export interface WorldImageOptions {
  /** Default true: the registry has an index of it. */
  readonly indexed?: boolean | undefined;
}

export class SnapshotterWorld {
  readonly registry: TestRegistry;
  readonly daemon: PeelDaemon;
  readonly containerd: Containerd;
  readonly #indexer = new PeelNode();
  #shell: Promise<string> | undefined;
  #layers = 0;

  private constructor(registry: TestRegistry, daemon: PeelDaemon, containerd: Containerd) {
    this.registry = registry;
    this.daemon = daemon;
    this.containerd = containerd;
  }

  static async start({ config, unpack, keeper, env, store }: WorldOptions = {}): Promise<SnapshotterWorld> {
    const registry = await TestRegistry.start(store);
    const daemon = new PeelDaemon({ env });
    const containerd = await Containerd.start({ containers: true, proxy: daemon.proxy });
    const world = new SnapshotterWorld(registry, daemon, containerd);
    try {
      world.configure(config?.(containerd, daemon), unpack);
      if (keeper === 'alone') await daemon.startKeeper();
      await daemon.start(keeper === 'parent' ? 'keeper' : 'daemon');
    } catch (error) {
      await world.close();
      throw error;
    }
    return world;
  }

  /** The daemon, for its next start or a reload. */
  configure(config: readonly string[] = [], unpack: readonly string[] = []): void {
    this.daemon.configure([...config, '[unpack]', `containerd = "${this.containerd.socket}"`, ...unpack]);
  }

  /** Pushes an image of the shell and a layer for each list of members. */
  async image(
    name: string,
    layers: readonly (readonly BuiltMember[])[],
    { indexed = true }: WorldImageOptions = {},
  ): Promise<PushedImage> {
    this.#shell ??= shellLayer(this.registry.work('shell.tar'));
    const tars = layers.map((members) => memberLayer(this.registry.work(`layer-${(this.#layers += 1)}.tar`), members));
    const image = await pushContainerImage(this.registry, name, [await this.#shell, ...(await Promise.all(tars))]);
    if (indexed) await this.index(image.reference);
    return image;
  }

  /** As a person does it; by default with spans so small that small layers are lazy. */
  async index(reference: string, span = '256KiB', minimum = '0'): Promise<void> {
    const sizes = ['--span-size', span, '--min-layer-size', minimum];
    await this.#indexer.ok(['index', 'create', reference, '--push', ...sizes]);
  }

  /** By `peel pull`. */
  async pull(reference: string, namespace = 'default'): Promise<void> {
    await this.daemon.ok(['pull', reference, '--address', this.containerd.socket, '--namespace', namespace]);
  }

  /** containerd dials a daemon that was away again after a while that it chooses; until then its calls fail. */
  async reconnected(): Promise<void> {
    for (let tries = 0; tries < 100; tries += 1) {
      const args = ['snapshots', '--snapshotter', this.containerd.snapshotter, 'ls'];
      if ((await this.containerd.tryCtr('default', args)).code === 0) return;
      await delay(100);
    }
    throw new Error('containerd does not find the daemon again');
  }

  /** Mount points that containers left; none, unless something went wrong. */
  async close(): Promise<readonly string[]> {
    const left = await this.containerd.close();
    await this.daemon.close();
    await this.#indexer.close();
    await this.registry.close();
    return left;
  }

  /** What both daemons have to say when the test that runs fails. */
  explainFailure(): void {
    onTestFailed(() => console.error(`peel daemon:\n${this.daemon.log}\ncontainerd:\n${this.containerd.log}`));
  }
}
