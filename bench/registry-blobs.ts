import { randomBytes } from 'node:crypto';
import { closeSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs';
import { scale, seconds, shell, workDir } from './support/machine.ts';
import { blobOf, pullFile, pushFile, RawClient } from './support/raw-client.ts';
import { type RunningRegistry, withDockerRegistry, withPeelRegistry } from './support/registries.ts';
import { median, type Question, type Ratio } from './support/result.ts';

const rounds = 3;
const connections = 8;
const against = 'docker-registry';

interface Round {
  readonly push: number;
  readonly pull: number;
  readonly memory: number;
}

/** One round for each registry in turn, each with an empty store; the figures are the medians. */
async function compare(work: (registry: RunningRegistry) => Promise<Round>): Promise<{ ours: Round; baseline: Round }> {
  const ours: Round[] = [];
  const baseline: Round[] = [];
  for (let round = 0; round < rounds; round += 1) {
    ours.push(await withPeelRegistry(work));
    baseline.push(await withDockerRegistry(work));
  }
  return { ours: middle(ours), baseline: middle(baseline) };
}

function middle(of: readonly Round[]): Round {
  return {
    push: median(of.map(({ push }) => push)),
    pull: median(of.map(({ pull }) => pull)),
    memory: median(of.map(({ memory }) => memory)),
  };
}

function rows(what: string, unit: string, { ours, baseline }: { ours: Round; baseline: Round }): Ratio[] {
  return [
    { what: `push of ${what}`, unit, ours: ours.push, baseline: baseline.push, against, aim: '>= 1x' },
    { what: `pull of ${what}`, unit, ours: ours.pull, baseline: baseline.pull, against, aim: '>= 1x' },
    {
      what: `peak memory of the server, ${what}`,
      unit: 'MB',
      ours: ours.memory / 1e6,
      baseline: baseline.memory / 1e6,
      against,
      aim: '< 200 MB',
    },
  ];
}

async function large(bytes: number): Promise<Ratio[]> {
  const file = `${workDir}/large-blob`;
  mkdirSync(workDir, { recursive: true });
  const out = openSync(file, 'w');
  for (let left = bytes; left > 0; left -= 1 << 20) writeSync(out, randomBytes(Math.min(left, 1 << 20)));
  closeSync(out);
  const digest = `sha256:${(await shell(`sha256sum ${file}`)).slice(0, 64)}`;
  const result = await compare(async ({ host, peakMemory }) => {
    const push = await seconds(() => pushFile(host, file, digest));
    const pull = await seconds(() => pullFile(host, digest));
    return { push: bytes / 1e6 / push, pull: bytes / 1e6 / pull, memory: peakMemory() };
  });
  rmSync(file);
  return rows(`a blob of ${(bytes / 1e9).toPrecision(2)} GB`, 'MB/s', result);
}

async function small(count: number): Promise<Ratio[]> {
  const blobs = Array.from({ length: count }, () => blobOf(randomBytes(4096)));
  const result = await compare(async ({ host, peakMemory }) => {
    const client = new RawClient(host, connections);
    const push = await seconds(() => client.push(blobs));
    const pull = await seconds(() => client.pull(blobs));
    client.close();
    return { push: count / push, pull: count / pull, memory: peakMemory() };
  });
  return rows(`${count} blobs of 4 KiB, ${connections} connections`, 'blobs/s', result);
}

export const registryBlobs: Question = {
  name: 'registry-blobs',
  asks: 'how fast does our registry take and give large and small blobs, with what memory, against docker-registry on the same disk?',
  async run() {
    return [...(await large(Math.round(1e9 * scale))), ...(await small(Math.round(10_000 * scale)))];
  },
};
