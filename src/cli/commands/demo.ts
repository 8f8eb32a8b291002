import { mkdtemp, rm } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import path from 'node:path';
import type { Command } from 'commander';
import { readEnvironment } from '../../config/environment.ts';
import { example } from '../command.ts';
import type { CliContext } from '../context.ts';
import { demoImage } from '../demo/build-image.ts';
import { runPeel } from '../demo/child.ts';
import { mountAndRun, unpackAndRun } from '../demo/contestants.ts';
import { DemoRegistry } from '../demo/demo-registry.ts';
import { pushLayout } from '../demo/push-layout.ts';
import {
  allowedShare,
  type DemoReport,
  lazyShare,
  reportColumns,
  reportJson,
  reportRows,
  startLines,
} from '../demo/report.ts';
import { CommandError } from '../errors.ts';
import { humanBytes, humanDuration, percent } from '../human.ts';

export function define(command: Command, context: CliContext): void {
  command
    .description(
      'Makes an image of files of this machine, pushes it to a registry on loopback with a peel index, mounts it lazily, runs a program in it, and does the same by downloading and unpacking.',
    )
    .action(async () => {
      const work = await mkdtemp(path.join(tmpdir(), 'peel-demo-'));
      try {
        const report = await runDemo(context, work);
        if (context.options.json) await context.output.value(reportJson(report));
        else await print(context, report);
        const share = lazyShare(report);
        if (share >= allowedShare) {
          throw new CommandError(
            `${percent(share, 1)} of the layers' bytes crossed the network, expected less than 30 %`,
          );
        }
      } finally {
        await rm(work, { recursive: true, force: true });
      }
    });
  example(command, 'peel demo');
}

async function runDemo(context: CliContext, work: string): Promise<DemoReport> {
  const { signal } = context;
  const say = (text: string): void => context.warn(text);
  const image = await demoImage(demoStore(), say, signal);
  const sum = (pick: (layer: (typeof image.layers)[number]) => number): number =>
    image.layers.reduce((total, layer) => total + pick(layer), 0);
  const [layerBytes, unpackedBytes] = [sum(({ size }) => size), sum(({ streamSize }) => streamSize)];
  say(`image of ${humanBytes(unpackedBytes)} (${humanBytes(layerBytes)} compressed) in ${image.layers.length} layers`);

  await using registry = await DemoRegistry.start(path.join(work, 'registry'), path.join(work, 'access.log'));
  const target = { host: registry.host, repository: 'demo', tag: '1' };
  const tagged = `${target.host}/${target.repository}:${target.tag}`;
  say(`pushing it to ${tagged}`);
  await pushLayout(image, target, signal);

  // A node of its own for indexing: what mounts later knows nothing of this image.
  const indexing = await runPeel(
    ['--root', path.join(work, 'indexer'), 'index', 'create', tagged, '--push', '--format', 'peel'],
    signal,
  );
  say(`made its peel index and pushed it in ${humanDuration(indexing.ms)}`);
  await rm(path.join(work, 'indexer'), { recursive: true, force: true });

  const digests = image.layers.map(({ digest }) => digest);
  const before = await registry.traffic(0, digests);
  say('mounting it with empty caches and running a program inside');
  const lazy = await mountAndRun(tagged, work, signal);
  const lazyTraffic = await registry.traffic(before.lines, digests);
  say('downloading and unpacking it, and running the program again');
  const eager = await unpackAndRun(target, work, signal);
  const eagerTraffic = await registry.traffic(lazyTraffic.lines, digests);
  return {
    layerBytes,
    unpackedBytes,
    layers: image.layers.length,
    lazy: { ...lazy, traffic: lazyTraffic },
    eager: { ...eager, traffic: eagerTraffic },
  };
}

async function print({ output }: CliContext, report: DemoReport): Promise<void> {
  await output.line('');
  await output.lines(report.lazy.output.split('\n').map((line) => `  ${line}`));
  await output.line('');
  await output.table(reportColumns, reportRows(report));
  await output.line('');
  await output.line('peel why, of the mount:');
  await output.lines(startLines(report).map((line) => `  ${line}`));
}

/** Where the packed image is kept between runs. */
function demoStore(): string {
  const { xdgCacheHome, home } = readEnvironment();
  return path.join(xdgCacheHome ?? path.join(home ?? homedir(), '.cache'), 'peel-demo');
}
