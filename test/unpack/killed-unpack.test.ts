// A process that unpacks is killed at any moment: the next one makes the right tree of what is there, and leaves nothing behind.
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, readdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import type { Node } from '../../src/daemon/node.ts';
import { rounds } from '../support/fixtures.ts';
import { labLayer } from '../support/image-lab.ts';
import type { LabImage } from '../support/image-lab.ts';
import { listTree, treeDifference } from '../support/list-tree.ts';
import { eventually } from '../support/proxy-stack.ts';
import { start } from '../support/run.ts';
import { tarOf } from '../support/tar-members.ts';
import { UnpackLab } from '../support/unpack-lab.ts';

const program = new URL('../support/unpack-process.mjs', import.meta.url).pathname;
const chunk_size = 65_536;
const unpack = { chunk_size };
const download = { per_node: 2, per_image: 2 };

function layers() {
  const file = (path: string, size: number) => ({ path, data: randomBytes(size), mode: 0o4750, mtimeNs: 5 });
  const dir = { path: 'd', type: 'dir', mode: 0o700 } as const;
  return [
    labLayer(tarOf(dir, file('d/a', 900_000), file('d/b', 1000), { path: 'd/.wh.old' }), 'gzip'),
    labLayer(tarOf(dir, file('d/c', 500_000), file('d/e', 10), file('d/f', 300_000)), 'zstd'),
  ];
}

/** Bytes of recorded chunks of each layer, by what the folders of its jobs say. */
function chunksThere(node: Pick<Node, 'paths' | 'state'>, image: LabImage): number {
  let bytes = 0;
  for (const { descriptor } of image.layers) {
    const jobs = node.state.unpackJobs
      .list()
      .filter(({ layer, state }) => layer === descriptor.digest && state !== 'claimed');
    for (const { job } of jobs) {
      const record = join(node.paths.root, 'unpack', job.toString(36), 'chunks');
      const lines = existsSync(record) ? readFileSync(record, 'utf8').split('\n').length - 2 : 0;
      bytes += Math.max(0, lines - 1) * chunk_size;
    }
  }
  return bytes;
}

/** Lines of the records of chunks, as the process that is to be killed writes them. */
function chunksOnDisk(root: string): number {
  const jobs = join(root, 'unpack');
  const records = existsSync(jobs) ? readdirSync(jobs).map((job) => join(jobs, job, 'chunks')) : [];
  const lines = records.map((path) => (existsSync(path) ? readFileSync(path, 'utf8').split('\n').length - 2 : 0));
  return Math.max(0, ...lines);
}

describe('a process that unpacks', () => {
  it('is killed at random moments, and the next one goes on', { timeout: 600_000 }, async () => {
    const lab = await UnpackLab.start();
    const image = await lab.lab.push('1', layers());
    const good = await lab.node();
    const expected = await listTree(await lab.unpackImage(await lab.unpacker(good), good, image));
    const whole = image.layers.reduce((sum, { descriptor }) => sum + descriptor.size, 0);
    // A line that is slow enough for a moment to be in the middle of something.
    lab.lab.front.interfere(
      (request) => (request.url ?? '').includes('/blobs/sha256'),
      (_request, _response, forward) => void setTimeout(forward, 20),
    );
    let [resumed, finished] = [0, 0];
    const count = rounds(100, 10, 0.1);
    for (let round = 0; round < count; round += 1) {
      const way = round % 2 === 0 ? 'image' : 'layer';
      const root = lab.path(`killed-${round}`);
      const dir = lab.path(`out-${round}`);
      await (await lab.node({ root })).close();
      const request = {
        root,
        reference: image.reference,
        layers: image.layers.map(({ descriptor, diffId }) => ({ descriptor, diffId })),
        way,
        dir,
        unpack,
        download,
      };
      const { child } = await start(process.execPath, [program, JSON.stringify(request)], /^working/);
      // Every other one has some chunks, however slow the machine is; the others are anywhere, some behind the download.
      if (round % 4 < 2) await eventually(async () => chunksOnDisk(root) > 2 || existsSync(dir), true);
      else await delay(Math.random() * 450);
      child.kill('SIGKILL');
      await new Promise((resolve) => void child.once('close', resolve));

      const node = await lab.node({ root });
      const unpacker = await lab.unpacker(node, unpack, download);
      unpacker.recover();
      expect(node.state.unpackJobs.list().filter(({ state }) => state === 'in_progress')).toEqual([]);
      await unpacker.idle();
      const there = chunksThere(node, image);
      lab.lab.front.forget();
      if (existsSync(dir)) {
        finished += 1;
        expect(treeDifference(await listTree(dir), expected)).toBe('');
      } else if (way === 'image') {
        expect(treeDifference(await listTree(await lab.unpackImage(unpacker, node, image, { dir })), expected)).toBe(
          '',
        );
      } else {
        const trees = await Promise.all(
          image.layers.map(
            async (_, i) =>
              await unpacker.unpackLayer(await lab.request(node, image, i), { signal: new AbortController().signal }),
          ),
        );
        trees.forEach((tree, i) => tree.claim((from) => renameSync(from, lab.path(`next-${round}-${i}`))));
        image.layers.forEach((_, i) => expect(readdirSync(lab.path(`next-${round}-${i}`))).toEqual(['d']));
        const [first = [], second = []] = await Promise.all(
          image.layers.map((_, i) => listTree(lab.path(`next-${round}-${i}`))),
        );
        const names = new Set([...first, ...second].map((line) => line.split('\t')[0]));
        expect(names).toEqual(new Set([...expected.map((line) => line.split('\t')[0]), 'd/old']));
        const differing = [...first, ...second].filter((line) => /^d\/[a-f]\t/.test(line) && !expected.includes(line));
        expect(differing).toEqual([]);
      }
      const fetched = lab.lab.front.bytes('/blobs/sha256');
      if (there > 0) {
        resumed += 1;
        expect(fetched).toBeLessThanOrEqual(whole - there);
      }
      await unpacker.idle();
      await unpacker.collect();
      // Nothing is left that no job has; and beside the image nothing at all.
      const rows = new Set(node.state.unpackJobs.list().map(({ job }) => job.toString(36)));
      const folders = existsSync(join(root, 'unpack')) ? readdirSync(join(root, 'unpack')) : [];
      expect(folders.filter((name) => !rows.has(name))).toEqual([]);
      expect(readdirSync(lab.lab.dir).filter((name) => name.startsWith('.'))).toEqual([]);
      await unpacker.close();
      await node.close();
    }
    expect(resumed + finished).toBeGreaterThan(0);
    expect(resumed).toBeGreaterThan(count / 10);
  });
});
