// A busy JavaScript heap must not be felt by whoever uses the mount: metadata and cached bytes never wait for it.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { makeFixture } from '../support/fixtures.ts';
import { fileSystemAt } from '../support/leftovers.ts';
import { PeelNode, canMount } from '../support/peel-node.ts';
import { peelMain, runOk } from '../support/run.ts';
import { TestRegistry, layersOf } from '../support/test-registry.ts';

const preload = new URL('../support/busy-on-signal.mjs', import.meta.url).href;
const touchTree = new URL('../support/touch-tree.py', import.meta.url).pathname;
const fileCount = 100;

describe.skipIf(!canMount)('while the serving process is busy in JavaScript', () => {
  let registry: TestRegistry;
  let node: PeelNode;

  beforeAll(async () => {
    registry = await TestRegistry.start();
    const wide = await makeFixture('wide', registry.work('wide'), '20000');
    const bulk = await makeFixture('bulk', registry.work('bulk'), String(fileCount));
    await registry.push('busy', layersOf([...wide, ...bulk], 'pigz'));
  });
  afterAll(() => registry.close());
  beforeEach(() => {
    node = new PeelNode();
  });
  afterEach(() => node.close());

  for (const transport of ['kernel', 'native'] as const) {
    it(`10 000 lookups of new names and 100 MB of cached reads are done before it ends, ${transport}`, async () => {
      const dir = await node.newDir();
      const args = ['--import', preload, peelMain, 'mount', registry.reference('busy'), dir, '--foreground'];
      const enough = join(node.dir, 'enough');
      const server = spawn(process.execPath, [...args, '--transport', transport], {
        env: { ...process.env, ...node.env, PEEL_BUSY_UNTIL: enough },
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      const said = linesOf(server);
      await mounted(dir, server);
      const files = Array.from({ length: fileCount }, (_, i) => join(dir, 'bulk', String(i).padStart(4, '0')));
      await runOk('sha256sum', files);

      const child = spawn('python3', [touchTree, join(dir, 'wide'), '10000', ...files], { stdio: ['pipe', 'pipe', 2] });
      const heard = linesOf(child);
      await heard(/^ready/);
      server.kill('SIGUSR2');
      await said(/^busy-from/);
      child.stdin?.write('go\n');
      const looked = await heard(/^looked-up (\d+)/);
      const read = await heard(/^read (\d+) (\d+)/);
      await writeFile(enough, '');
      const until = Number((await said(/^busy-until (\d+)/))[1]);
      expect(Number(looked[1])).toBeLessThan(until);
      expect(Number(read[1])).toBe(fileCount << 20);
      expect(Number(read[2])).toBeLessThan(until);

      const gone = once(server, 'exit');
      await node.umount(dir);
      await gone;
    });
  }
});

/** Waits for a line of the child's output that matches; remembers those that were not asked for yet. */
function linesOf(child: ChildProcess): (pattern: RegExp) => Promise<RegExpExecArray> {
  const stream = child.stdout ?? child.stderr;
  if (stream === null) throw new TypeError('the child has no output');
  const lines: string[] = [];
  let wake = (): void => {};
  createInterface({ input: stream }).on('line', (line) => {
    lines.push(line);
    wake();
  });
  return async (pattern) => {
    for (;;) {
      const found = lines.map((line) => pattern.exec(line)).find((match) => match !== null);
      if (found) return found;
      if (child.exitCode !== null) throw new Error(`ended without ${pattern}:\n${lines.join('\n')}`);
      await new Promise<void>((resolve) => {
        wake = resolve;
        child.once('exit', () => setTimeout(resolve, 50));
      });
    }
  };
}

async function mounted(dir: string, server: ChildProcess): Promise<void> {
  while (fileSystemAt(dir) === undefined) {
    if (server.exitCode !== null) throw new Error(`peel mount exited with ${server.exitCode}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
