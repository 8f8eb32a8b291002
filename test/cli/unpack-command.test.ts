// `peel unpack` from dist/, its trees compared with umoci's, its bundles run by runc.
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { shellLayer } from '../support/container-image.ts';
import { makeFixture } from '../support/fixtures.ts';
import type { BuiltImage } from '../support/image-builder.ts';
import { listTree, treeDifference } from '../support/list-tree.ts';
import { PeelNode } from '../support/peel-node.ts';
import { unpackWithUmoci } from '../support/reference-tree.ts';
import { run } from '../support/run.ts';
import { layersOf, TestRegistry } from '../support/test-registry.ts';

const node = new PeelNode();
let registry: TestRegistry;
let tars: string[];
let zoo: BuiltImage;

beforeAll(async () => {
  registry = await TestRegistry.start();
  tars = (await makeFixture('zoo', registry.work('zoo'))).slice(0, 3);
  zoo = await registry.push('zoo', layersOf(tars, 'gzip', 'zstd', 'none'));
  await registry.push('shell', layersOf([await shellLayer(registry.work('shell.tar'))], 'gzip'));
});
afterAll(async () => {
  await registry.close();
  await node.close();
});

const newDir = (name: string): string => join(node.dir, name);

describe.skipIf(process.getuid?.() !== 0)('peel unpack', () => {
  it('makes the tree that umoci makes, and says what it did', async () => {
    const reference = registry.reference('zoo');
    const dir = newDir('tree');
    const report = await node.json(['unpack', reference, dir]);
    expect(report).toMatchObject({
      reference,
      digest: zoo.manifest.descriptor.digest,
      dir,
      rootfs: dir,
      layers: zoo.layers.map(({ descriptor: { digest, size } }) => ({ digest, size })),
      warnings: [],
    });
    const expected = await listTree(await unpackWithUmoci(registry.work('reference'), tars));
    expect(treeDifference(await listTree(dir), expected)).toBe('');
  });

  it('prints a line for every layer, and clears away what killed ones left', async () => {
    mkdirSync(join(node.root, 'unpack/old-killed/fs'), { recursive: true });
    const out = await node.ok(['unpack', registry.reference('zoo'), newDir('printed')]);
    for (const { descriptor } of zoo.layers) expect(out).toContain(descriptor.digest.slice(0, 19));
    expect(out).toContain(`unpacked into ${newDir('printed')}\n`);
    expect(readdirSync(join(node.root, 'unpack'))).toEqual([]);
  });

  it('makes a bundle that runc runs', async () => {
    const dir = newDir('bundle');
    const { config } = await node.json<{ config: string }>(['unpack', registry.reference('shell'), dir, '--bundle']);
    const spec = JSON.parse(readFileSync(config, 'utf8')) as { process: { args: string[]; terminal: boolean } };
    expect(spec.process.args).toEqual(['/bin/sh']);
    spec.process.args.push('-c', 'ls /; echo $PATH');
    spec.process.terminal = false;
    writeFileSync(config, JSON.stringify(spec));
    const runc = ['--root', newDir('runc'), 'run', '--bundle', dir, `peel-unpack-${process.pid}`];
    const { out, err } = await run('runc', runc);
    expect(out, err).toMatch(/^usr$[^]*^\/usr\/bin:\/bin$/m);
  });

  it('gives everything to who is not root', async () => {
    const dir = newDir('mine');
    const out = await node.peel(['unpack', registry.reference('zoo'), dir, '--rootless']);
    expect([out.code, out.err]).toEqual([0, expect.stringContaining('device')]);
    expect(new Set((await listTree(dir)).map((line) => line.split('\t')[3]))).toHaveLength(1);
    expect(statSync(dir).uid).toBe(0);
  });

  it('leaves a directory as it was that is not empty, with exit code 1', async () => {
    const dir = newDir('full');
    mkdirSync(join(dir, 'x'), { recursive: true });
    const { code, err } = await node.peel(['unpack', registry.reference('zoo'), dir, '--json']);
    expect(code).toBe(1);
    expect(JSON.parse(err)).toMatchObject({ error: { code: 'ERR_UNPACK_DESTINATION' } });
    expect(readdirSync(dir)).toEqual(['x']);
  });

  it('does not put another directory where the user is, but a bundle into it', async () => {
    const dir = newDir('here');
    mkdirSync(dir);
    const refused = await node.peel(['unpack', registry.reference('shell'), '.'], { cwd: dir });
    expect([refused.code, refused.err]).toEqual([1, expect.stringContaining('is the directory you are in')]);
    expect(readdirSync(dir)).toEqual([]);
    await node.ok(['unpack', registry.reference('shell'), '.', '--bundle'], { cwd: dir });
    expect(readdirSync(dir).sort()).toEqual(['config.json', 'rootfs']);
  });

  it('leaves nothing when the registry fails in mid-layer', async () => {
    const blob = zoo.layers[1]?.descriptor.digest ?? '';
    const mend = registry.front.interfere(
      ({ url }) => url?.includes(blob) === true,
      (_request, response) => void response.writeHead(404).end(),
    );
    const dir = newDir('failed');
    const fresh = new PeelNode();
    const { code, err } = await fresh.peel(['unpack', registry.reference('zoo'), dir, '--bundle']);
    mend();
    await fresh.close();
    expect([code, err]).toEqual([1, expect.stringContaining(blob.slice(0, 19))]);
    expect(readdirSync(node.dir)).not.toContain('failed');
  });
});
