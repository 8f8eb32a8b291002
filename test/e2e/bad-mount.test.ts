// What a person gets wrong, and what a machine lacks: a message that names it, exit code 1, nothing half mounted.
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { makeFixture } from '../support/fixtures.ts';
import type { BuiltImage } from '../support/image-builder.ts';
import { fileSystemAt, mountsBelow, processesUsing } from '../support/leftovers.ts';
import { PeelNode, canMount } from '../support/peel-node.ts';
import { type RunResult, peelMain, run, runOk } from '../support/run.ts';
import { TestRegistry, layersOf } from '../support/test-registry.ts';

describe.skipIf(!canMount)('peel mount', () => {
  let registry: TestRegistry;
  let node: PeelNode;
  let image: BuiltImage;
  let reference: string;

  beforeAll(async () => {
    registry = await TestRegistry.start();
    const tars = await makeFixture('bulk', registry.work('bulk'), '8');
    image = await registry.push('bulk', layersOf(tars, 'gzip'));
    reference = registry.reference('bulk');
    const indexer = new PeelNode();
    await indexer.ok(['index', 'create', reference, '--push', '--min-layer-size', '0', '--span-size', '1MiB']);
    await indexer.close();
  });
  afterAll(() => registry.close());
  beforeEach(() => {
    node = new PeelNode();
  });
  afterEach(() => node.close());

  function refused(result: RunResult, ...messages: readonly (string | RegExp)[]): void {
    expect(result.code, result.err).toBe(1);
    for (const message of messages) expect(result.err).toMatch(message);
    expect(result.err).not.toMatch(/\n\s+at /);
    expect(result.err.trim().split('\n').length).toBeLessThan(6);
    expect(processesUsing(node.dir)).toEqual([]);
    expect(mountsBelow(node.dir)).toEqual([]);
  }

  it('names an image that the registry does not have', async () => {
    const dir = await node.newDir();
    refused(await node.peel(['mount', registry.reference('no/such'), dir]), 'no/such');
    refused(await node.peel(['mount', registry.reference('bulk', 'no-tag'), dir]), 'no-tag');
  });

  it('names a registry that does not answer', async () => {
    const dir = await node.newDir();
    refused(await node.peel(['mount', '127.0.0.1:1/no/registry:1', dir]), '127.0.0.1:1', /refused|reach|connect/i);
  });

  it('calls a reference that is none wrong usage', async () => {
    const result = await node.peel(['mount', 'UPPER case', await node.newDir()]);
    expect(result.code).toBe(2);
    expect(result.err).toContain('UPPER case');
  });

  it('names a directory that is missing, a file, not empty, or mounted already', async () => {
    const missing = join(node.dir, 'missing');
    refused(await node.peel(['mount', reference, missing]), missing, /does not exist|no such/i);
    const file = join(node.dir, 'file');
    await writeFile(file, '');
    refused(await node.peel(['mount', reference, file]), file, /not a directory/i);
    const full = await node.newDir('full');
    await writeFile(join(full, 'something'), '');
    refused(await node.peel(['mount', reference, full]), full, /not empty/i);

    const dir = await node.mount(reference);
    const again = await node.peel(['mount', reference, dir]);
    expect(again.code).toBe(1);
    expect(again.err).toMatch(/already mounted/i);
    await runOk('sha256sum', [join(dir, 'bulk/0001')]);
    await node.umount(dir);
  });

  it('says so when there is no /dev/fuse', async () => {
    const dir = await node.newDir();
    const dev = await node.newDir('dev');
    // Its own mount namespace without the device; everything else as on the machine.
    const hide = `for d in null zero urandom random; do touch ${dev}/$d && mount --bind /dev/$d ${dev}/$d; done; mount --rbind ${dev} /dev`;
    const command = `${hide} && exec ${process.execPath} ${peelMain} mount ${reference} ${dir}`;
    const result = await run('unshare', ['--mount', '--propagation', 'private', 'sh', '-c', command], {
      env: { ...node.env },
    });
    refused(result, '/dev/fuse');
  });

  it('names a state directory that cannot be written', async () => {
    const file = join(node.dir, 'a-file');
    await writeFile(file, '');
    const dir = await node.newDir();
    refused(await node.peel(['mount', reference, dir], { env: { PEEL_ROOT: join(file, 'root') } }), join(file, 'root'));
    refused(await node.peel(['mount', reference, dir, '--root', '/proc/peel']), '/proc/peel');
  });

  for (const transport of ['kernel', 'native'] as const) {
    it(`that is killed leaves a directory which peel umount frees, ${transport}`, async () => {
      const dir = await node.mount(reference, transport);
      for (const pid of processesUsing(node.dir)) process.kill(pid, 'SIGKILL');
      await node.umount(dir);
      expect(fileSystemAt(dir)).toBeUndefined();
      const again = await node.mount(reference, transport);
      await runOk('sha256sum', [join(again, 'bulk/0001')]);
      await node.umount(again);
      expect(processesUsing(node.dir)).toEqual([]);
    });

    it(`answers EIO where the layer is shorter than its index says, ${transport}`, async () => {
      const dir = await node.mount(reference, transport, '--index', 'require');
      const layer = image.layers[0]?.descriptor;
      const cut = Math.floor((layer?.size ?? 0) / 2);
      const healed = registry.front.interfere(
        (request) => (request.url ?? '').includes(`/blobs/${layer?.digest}`),
        (request, response) => {
          const [, from = '0', to = '0'] = /bytes=(\d+)-(\d+)/.exec(request.headers.range ?? '') ?? [];
          const size = Math.min(Number(to) + 1, cut) - Number(from);
          const headers = {
            'content-length': Math.max(size, 0),
            'content-range': `bytes ${from}-${Number(from) + size - 1}/${cut}`,
          };
          response.writeHead(size > 0 ? 206 : 416, size > 0 ? headers : { 'content-range': `bytes */${cut}` });
          response.end(Buffer.alloc(Math.max(size, 0)));
        },
      );
      try {
        const read = await run('cat', [join(dir, 'bulk/0007')]);
        expect(read.code).toBe(1);
        expect(read.err).toContain('Input/output error');
        expect((await run('stat', [join(dir, 'bulk/0007')])).code).toBe(0);
      } finally {
        healed();
      }
      await node.umount(dir);
    });
  }

  it('of a directory that nothing is mounted on is told apart by umount', async () => {
    const dir = await node.newDir();
    const result = await node.peel(['umount', dir]);
    refused(result, dir, /not mounted|nothing/i);
    await rm(dir, { recursive: true });
    await mkdir(dir);
  });
});
