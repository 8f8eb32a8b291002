import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, readdirSync, rmSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { ContainerNode } from './support/container-node.ts';
import { manyLayers } from './support/fixture.ts';
import { checkout, cli, output, residentAnonymous, scale, workDir } from './support/machine.ts';
import { factsOf, prepareLayers } from './support/prepared-layers.ts';
import { median } from './support/result.ts';
import type { Figure, Question } from './support/result.ts';
import { ShapedRegistry } from './support/shaped-registry.ts';
import { SnapshotsClient } from './support/snapshots-client.ts';

const layerCounts = [10, 100, 500].map((count) => Math.max(2, Math.round(count * scale)));
const rounds = 5;
/** In which a reader has begun to read, also on a busy machine. */
const readerStartMs = 1_500;

interface Cost {
  readonly layers: number;
  readonly memory: number;
  readonly fds: number;
}

export const restart: Question = {
  name: 'restart',
  asks: 'a daemon is killed and another one started: when does that serve what is mounted, and how long does a read of cached bytes wait?',
  async run() {
    const rows: Figure[] = [];
    const costs: Cost[] = [];
    for (const layers of layerCounts) costs.push(await measure(layers, rows));
    const [least, most] = [costs[0], costs.at(-1)];
    if (least === undefined || most === undefined || most.layers === least.layers) return rows;
    const per = (of: 'memory' | 'fds') => (most[of] - least[of]) / (most.layers - least.layers);
    rows.push({ what: 'RssAnon of the new daemon, for one layer more', unit: 'kB', ours: per('memory') / 1000 });
    rows.push({ what: 'file descriptors of the new daemon, for one layer more', unit: '', ours: per('fds') });
    return rows;
  },
};

async function measure(layers: number, rows: Figure[]): Promise<Cost> {
  const input = await manyLayers(layers);
  const store = `${workDir}/shaped-store`;
  const pushed = { PEEL_ROOT: `${workDir}/push-root`, PEEL_RUN_DIR: `${workDir}/push-run` };
  rmSync(store, { recursive: true, force: true });
  const registry = await ShapedRegistry.start(store);
  try {
    const image = `${registry.host}/bench/layers:latest`;
    const env = { ...pushed, PEEL_CERTS_DIR: registry.certsDir };
    await output(process.execPath, [cli, 'copy', input.image, image], env);
    await output(process.execPath, [cli, 'index', 'create', '--min-layer-size', '0', '--push', image], env);
    // A layer whose bytes have all come would be served by the kernel alone the next time.
    const node = await ContainerNode.start(
      registry,
      'lazy',
      '[fill]\nenabled = false\n[read_ahead]\nenabled = false\n',
    );
    try {
      await node.keep();
      // The first one knew of no keeper.
      await node.replaceDaemon();
      const client = await SnapshotsClient.connect(node.snapshotterSocket);
      await prepareLayers(client, image, factsOf(input.layout));
      client.close();
      const [adoption, pause] = [[] as number[], [] as number[]];
      for (let round = 0; round < rounds; round += 1) {
        const reader = new Reader(node.layerDir(1));
        await delay(readerStartMs);
        const replaced = await node.replaceDaemon();
        pause.push(await reader.longestPause());
        if (replaced?.layers !== layers) throw new Error(`${replaced?.layers ?? 0} of ${layers} layers were adopted`);
        adoption.push(replaced.processMs);
      }
      const aim = layers >= 500 ? { aim: '< 1000 ms' } : {};
      rows.push({
        what: `process start to the first answer, ${layers} layers`,
        unit: 'ms',
        ours: median(adoption),
        ...aim,
      });
      rows.push({ what: `longest pause of a cached read, ${layers} layers`, unit: 'ms', ours: median(pause) });
      const fds = readdirSync(`/proc/${node.daemonPid}/fd`).length;
      return { layers, memory: residentAnonymous(node.daemonPid), fds };
    } finally {
      await node.close();
    }
  } finally {
    await registry.close();
    for (const folder of [store, ...Object.values(pushed)]) rmSync(folder, { recursive: true, force: true });
  }
}

/** Reads one file of a layer again and again, past the page cache of the tree. */
class Reader {
  readonly #child: ChildProcess;
  #out = '';

  constructor(dir: string) {
    const file = readdirSync(dir, { recursive: true, encoding: 'utf8' }).find((name) => name.endsWith('/00')) ?? '';
    const sum = createHash('sha256')
      .update(readFileSync(`${dir}/${file}`))
      .digest('hex');
    this.#child = spawn('python3', [`${checkout}/test/support/checksum-reader.py`], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#child.stdout?.on('data', (chunk: Buffer) => (this.#out += chunk.toString()));
    this.#child.stdin?.write(`${JSON.stringify({ root: dir, files: [[file, sum]] })}\n`);
  }

  /** ms. Ends it. */
  async longestPause(): Promise<number> {
    const ended = once(this.#child, 'close');
    this.#child.stdin?.end();
    await ended;
    const { longest, failed, wrong } = JSON.parse(this.#out) as {
      longest: number;
      failed: unknown[];
      wrong: unknown[];
    };
    if (failed.length + wrong.length > 0) throw new Error(`reads failed: ${this.#out}`);
    return longest * 1000;
  }
}
