// SnapshotLayers in a process of their own, made of the built code, driven over its standard input: what is mounted may be read here,
// and the process may be stopped and killed. One that was neither serves the next test, which spares it the loading of the modules.
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { createInterface, type Interface } from 'node:readline';
import { onTestFinished } from 'vitest';
import type { LayerMountStatus } from '../../src/image/layer-mount-status.ts';
import { chainIds } from '../../src/oci/chain-id.ts';
import type { DiskUsage, ProvideOutcome } from '../../src/snapshotter/layer-provider.ts';
import type { SnapshotLayersConfig } from '../../src/snapshotter/snapshot-layers.ts';
import type { LowerNode } from '../../src/tree/lower-node.ts';
import type { LabImage } from './image-lab.ts';
import { mountsBelow } from './leftovers.ts';
import { run } from './run.ts';

const dist = new URL('../../dist', import.meta.url).href;

export interface Wish {
  readonly chainId: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly below: readonly (number | null)[];
  /** ms until the caller loses patience. */
  readonly timeout?: number;
}

export type ProcessConfig = Partial<SnapshotLayersConfig> & {
  readonly readDeadlineMs?: number;
  /** As a daemon that was configured with nothing: by default only what is read is fetched. */
  readonly lazily?: boolean;
};

export class LayersProcess {
  readonly child: ChildProcess;
  readonly root: string;
  readonly #lines: Interface;
  #err = '';
  #calls = 0;
  readonly #waiting = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void }>();

  private constructor(root: string, child: ChildProcess) {
    this.root = root;
    this.child = child;
    child.stderr?.on('data', (chunk: Buffer) => (this.#err += chunk.toString()));
    child.once('close', () => this.#answer(0, (waiting) => waiting.reject(new Error(`ended: ${this.#err}`))));
    this.#lines = createInterface({ input: child.stdout as NodeJS.ReadableStream });
    this.#lines.on('line', (line) => {
      const { id, value, error } = JSON.parse(line) as { id: number; value?: never; error?: string };
      this.#answer(id, ({ resolve, reject }) =>
        error === undefined ? resolve(value as never) : reject(new Error(error)),
      );
    });
  }

  /** Everything that is mounted below `root` goes when the test ends. Rejects when the process cannot open the state directory. */
  static async start(root: string, options: ProcessConfig = {}): Promise<LayersProcess> {
    mkdirSync(root, { recursive: true });
    const made = new LayersProcess(root, idle.pop() ?? newChild());
    onTestFinished(async () => {
      await made.#release();
      for (const point of mountsBelow(root)) await run('umount', ['-l', point]);
    });
    const { readDeadlineMs = 10_000, lazily = false, ...config } = options;
    await made.call('open', { root, runDir: `${root}-run`, config, readDeadlineMs, lazily });
    return made;
  }

  provide(wish: Wish): Promise<ProvideOutcome> {
    return this.call('provide', wish);
  }

  /** As containerd pulls: one layer after the other, each committed. What is deferred is a directory to those above. */
  async pull(image: LabImage, labels: Readonly<Record<string, string>> = {}): Promise<ProvideOutcome[]> {
    const outcomes: ProvideOutcome[] = [];
    for (const [position, wish] of wishesOf(image, labels).entries()) {
      const below = outcomes.map((each) => (each.kind === 'served' ? each.slot : null));
      const outcome = await this.provide({ ...wish, below });
      if (outcome.kind === 'served') await this.commit(`${image.digest} ${position}`, outcome.slot);
      outcomes.push(outcome);
    }
    return outcomes;
  }

  /** A snapshot that shows the slot. */
  async commit(key: string, slot: number): Promise<void> {
    await this.sql(
      "INSERT OR REPLACE INTO snapshots (key, kind, slot, created_at, updated_at) VALUES (?, 'committed', ?, 0, 0)",
      key,
      slot,
    );
  }

  async directory(slot: number): Promise<string> {
    return await this.call('directory', slot);
  }

  async usage(slot: number): Promise<DiskUsage> {
    return await this.call('usage', slot);
  }

  /** What the layer's tree has at clean paths; null where nothing is. */
  async nodesAt(slot: number, below: Wish['below'], paths: readonly string[]): Promise<(LowerNode | null)[]> {
    return await this.call('nodesAt', slot, below, paths);
  }

  async status(): Promise<LayerMountStatus[]> {
    return await this.call('status');
  }

  /** What was told of containers that start; layers by their digests. */
  async starts(): Promise<{ reference: string; image: string; layers: string[] }[]> {
    return await this.call('starts');
  }

  async sql(text: string, ...values: readonly unknown[]): Promise<void> {
    await this.call('sql', text, values);
  }

  call<T>(method: string, ...args: readonly unknown[]): Promise<T> {
    const id = (this.#calls += 1);
    return new Promise<T>((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.child.stdin?.write(`${JSON.stringify({ id, method, args })}\n`);
    });
  }

  /** As the daemon ends: serving stops, nothing is unmounted. */
  async stop(): Promise<void> {
    const closed = once(this.child, 'close');
    this.child.stdin?.end();
    const [code] = (await closed) as [number | null];
    if (code !== 0) throw new Error(`ended with ${code}: ${this.#err}`);
  }

  async kill(): Promise<void> {
    if (this.#hasEnded) return;
    const closed = once(this.child, 'close');
    this.child.kill('SIGKILL');
    await closed;
  }

  /** To who starts the next one, or killed when it does not close. */
  async #release(): Promise<void> {
    const patience = AbortSignal.timeout(2_000);
    const late = once(patience, 'abort').then(() => false);
    const closed = this.call('close').then(
      () => true,
      () => false,
    );
    if (this.#hasEnded || !(await Promise.race([closed, late]))) return await this.kill();
    this.#lines.close();
    this.child.stderr?.removeAllListeners('data').resume();
    this.child.removeAllListeners('close');
    idle.push(this.child);
  }

  get #hasEnded(): boolean {
    return this.child.exitCode !== null || this.child.signalCode !== null;
  }

  /** 0: everybody. */
  #answer(
    id: number,
    how: (waiting: { resolve: (value: never) => void; reject: (error: Error) => void }) => void,
  ): void {
    for (const [key, waiting] of this.#waiting) {
      if (id !== 0 && key !== id) continue;
      this.#waiting.delete(key);
      how(waiting);
    }
  }
}

/** What containerd asks for each layer, without what lies below. */
export function wishesOf(image: LabImage, labels: Readonly<Record<string, string>> = {}): Wish[] {
  return chainIds(image.layers.map(({ diffId }) => diffId)).map((chainId, i) => ({
    chainId,
    labels: {
      'containerd.io/snapshot.ref': chainId,
      'containerd.io/snapshot/cri.image-ref': image.reference,
      'containerd.io/snapshot/cri.manifest-digest': image.digest,
      'containerd.io/snapshot/cri.layer-digest': image.layers[i]?.descriptor.digest ?? '',
      ...labels,
    },
    below: [],
  }));
}

/** Serving nobody. Their standard input ends with this process. */
const idle: ChildProcess[] = [];

function newChild(): ChildProcess {
  return spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: ['pipe', 'pipe', 'pipe'] });
}

const program = `
  import { createInterface } from 'node:readline';
  import Sqlite from 'better-sqlite3';
  const load = (name) => import(${JSON.stringify(dist)} + '/' + name + '.js');
  const { readEnvironment } = await load('config/environment');
  const { ContentStore } = await load('image/content-store');
  const { ContentFetcher } = await load('image/content');
  const { LayerDirectories } = await load('layer/layer-paths');
  const { LayerStore } = await load('layer/layer-store');
  const { Origins } = await load('daemon/origins');
  const { createLog } = await load('observe/log');
  const { openState } = await load('state/state');
  const { Semaphore } = await load('util/semaphore');
  const { SnapshotLayers } = await load('snapshotter/snapshot-layers');
  const { configSchema } = await load('config/schema');
  const { openUnpacker } = await load('daemon/unpacking');
  const { defaultLazyConfig, Laziness } = await load('daemon/laziness');
  async function open({ root, runDir, config, readDeadlineMs, lazily }) {
    process.env.PEEL_RUN_DIR = runDir;
    const log = createLog({ level: 'debug' });
    const state = openState(root);
    const db = new Sqlite(root + '/peel.db');
    const directories = await LayerDirectories.open(root, runDir);
    const store = new LayerStore({ directories, table: state.layers, slots: new Semaphore(16), log, readDeadlineMs });
    const origins = new Origins({ environment: readEnvironment(), log });
    const unpacking = configSchema.parse({ unpack: { reserve: '1MiB' } });
    const node = { paths: { root }, state, imageDeps: { layers: store } };
    const unpacker = await openUnpacker({ node, config: () => unpacking, log });
    const starts = [];
    const layers = await SnapshotLayers.open({
      onStart: ({ layers, ...start }) =>
        void starts.push({ ...start, layers: layers.map(({ layer }) => layer.descriptor.digest) }),
      root, runDir, state, store, openOrigin: origins.open, log, userXattr: false,
      unpacker,
      lazily: lazily ? new Laziness({ config: () => defaultLazyConfig, state, log }) : undefined,
      content: new ContentFetcher(new ContentStore(root), state.images),
      config: {
        mode: 'lazy', transport: 'auto', formats: { peel: true, soci_v1: true, soci_v2: true }, choice: 'newest',
        wholeLayerLimit: 64 << 20, downloadsPerImage: 8, ...config,
      },
    });
    return {
      of: (name) => layers[name].bind(layers),
      close: async () => {
        await layers.close();
        await unpacker.close();
        await origins.close();
        db.close();
        state.close();
      },
      provide: ({ timeout, below, ...wish }) => layers.provide({
        ...wish,
        below: below.map((slot) => slot ?? undefined),
        signal: AbortSignal.timeout(timeout ?? 60000),
      }),
      nodesAt: async (slot, below, paths) => {
        const signal = AbortSignal.timeout(60000);
        const found = await layers.nodesAt(slot, below.map((each) => each ?? undefined), paths, { signal });
        return found.map((node) => node ?? null);
      },
      starts: () => starts,
      sql: (text, values) => void db.prepare(text).run(...values),
    };
  }
  let opened;
  const calls = {
    open: async (options) => void (opened = await open(options)),
    close: async () => {
      const closing = opened;
      opened = undefined;
      await closing?.close();
    },
  };
  for await (const line of createInterface({ input: process.stdin })) {
    const { id, method, args } = JSON.parse(line);
    const answer = (found) => process.stdout.write(JSON.stringify({ id, ...found }) + '\\n');
    void (async () => (calls[method] ?? opened[method] ?? opened.of(method))(...args))().then(
      (value) => answer({ value }),
      (error) => answer({ error: error.message }),
    );
  }
  await calls.close();
  process.exitCode = 0;`;
