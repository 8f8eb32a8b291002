import type { ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { FuseServer } from '../../src/native/fuse-server.ts';
import { LayerCache } from '../../src/native/layer-cache.ts';
import { fuseMount, openFuseDevice, unmount } from '../../src/native/mounts.ts';
import { busyUntil } from '../support/busy-until.ts';
import { attached, mountPoint } from '../support/mounted.ts';
import { run, runOk } from '../support/run.ts';
import { StoredLayer } from '../support/stored-layer.ts';
import { tempDir } from '../support/tmp.ts';

const MiB = 1 << 20;

async function serveBlobs(
  o: { onError?: (message: string) => void } = {},
): Promise<{ server: FuseServer; dir: string }> {
  const fd = openFuseDevice();
  const mount = await fuseMount({ fd, allowOther: false });
  const server = FuseServer.blobs({ fd, onError: o.onError });
  const dir = await attached(mount);
  onTestFinished(() => server.stop());
  return { server, dir };
}

function newLayer(size: number, spanSize: number): StoredLayer {
  const layer = new StoredLayer(tempDir(), { size, spanSize });
  onTestFinished(() => layer.cache.close());
  return layer;
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const sumOf = async (file: string): Promise<string> => (await runOk('sha256sum', [file])).split(' ')[0] ?? '';

describe('FuseServer.blobs', () => {
  it('serves a layer stream whose spans come on demand', async () => {
    const { server, dir } = await serveBlobs();
    const layer = newLayer(5 * MiB + 100, MiB / 4);
    layer.serve();
    server.addBlob('a', layer.cache, { passthrough: false });
    expect((await runOk('stat', ['-c', '%s %a %F', `${dir}/a`])).trim()).toBe(`${5 * MiB + 512} 400 regular file`);
    const padded = Buffer.concat([layer.bytes, Buffer.alloc(412)]);
    expect(await sumOf(`${dir}/a`)).toBe(sha256(padded));
    expect(new Set(layer.misses).size).toBe(layer.misses.length);
    expect(server.stats()).toMatchObject({ errors: 0, waiting: 0 });
    expect(server.stats().parked).toBeGreaterThan(0);
  });

  it('asks for one span once, however many read it', async () => {
    const { server, dir } = await serveBlobs();
    const layer = newLayer(8 * MiB, 4 * MiB);
    layer.serve({ stalled: true });
    server.addBlob('a', layer.cache, { passthrough: false });
    const script = `for i in $(seq 64); do dd if=${dir}/a bs=4096 count=1 skip=$i status=none | md5sum & done; wait`;
    const readers = runOk('bash', ['-c', script]);
    await until(() => layer.misses.length > 0);
    await new Promise((resolve) => setTimeout(resolve, 200));
    await layer.bring(0);
    const sums = (await readers).trim().split('\n');
    expect(sums).toHaveLength(64);
    expect(new Set(sums).size).toBe(64);
    expect(layer.misses).toEqual([0]);
  });

  it('lists what was added later, and never takes a name twice', async () => {
    const { server, dir } = await serveBlobs();
    const layer = newLayer(1000, 512);
    server.addBlob('a', layer.cache, { passthrough: false });
    expect(await runOk('ls', [dir])).toBe('a\n');
    expect((await run('stat', [`${dir}/b`])).code).toBe(1);
    server.addBlob('b', layer.cache, { passthrough: false });
    expect(await runOk('ls', [dir])).toBe('a\nb\n');
    expect(await runOk('stat', ['-c', '%s', `${dir}/b`])).toBe('1024\n');
    expect(() => server.addBlob('a', layer.cache, { passthrough: false })).toThrow(
      expect.objectContaining({ code: 'EEXIST' }),
    );
    expect(() => server.addBlob('a/b', layer.cache, { passthrough: false })).toThrow(
      expect.objectContaining({ code: 'EINVAL' }),
    );
    expect(() => server.addBlob('c', layer.cache, { passthrough: true })).toThrow(
      expect.objectContaining({ code: 'EINVAL' }),
    );
  });

  it('leaves a complete layer to the kernel', async () => {
    const { server, dir } = await serveBlobs();
    const layer = newLayer(3 * MiB + 700, MiB);
    await layer.complete();
    server.addBlob('plain', layer.cache, { passthrough: false });
    server.addBlob('direct', layer.cache, { passthrough: true });
    const padded = sha256(Buffer.concat([layer.bytes, Buffer.alloc(324)]));
    expect(await sumOf(`${dir}/plain`)).toBe(padded);
    const { reads } = server.stats();
    expect(reads).toBeGreaterThan(0);
    expect(await sumOf(`${dir}/direct`)).toBe(padded);
    if (server.stats().passthrough) expect(server.stats().reads).toBe(reads);
  });

  it('removes a blob for good, plain or left to the kernel', async () => {
    const { server, dir } = await serveBlobs();
    const layer = newLayer(MiB, MiB);
    await layer.complete();
    server.addBlob('plain', layer.cache, { passthrough: false });
    server.addBlob('direct', layer.cache, { passthrough: true });
    server.addBlob('stays', layer.cache, { passthrough: true });
    await runOk('cat', [`${dir}/plain`, `${dir}/direct`, `${dir}/stays`]);
    server.removeBlob('plain');
    server.removeBlob('direct');
    expect(await runOk('ls', [dir])).toBe('stays\n');
    for (const name of ['plain', 'direct']) {
      expect((await run('stat', [`${dir}/${name}`])).err).toContain('No such file');
      expect((await run('cat', [`${dir}/${name}`])).err).toContain('No such file');
      expect(() => server.removeBlob(name)).toThrow(expect.objectContaining({ code: 'ENOENT' }));
      expect(() => server.addBlob(name, layer.cache, { passthrough: false })).toThrow(
        expect.objectContaining({ code: 'EEXIST' }),
      );
    }
    expect(await sumOf(`${dir}/stays`)).toBe(sha256(layer.bytes));
    await layer.cache.close();
    server.removeBlob('stays');
    expect(await LayerCache.tryRemove(layer.dir, layer.livePath)).toBe(true);
  });

  it('keeps nothing of a removed blob open, so that its disk can go', async () => {
    const { server, dir } = await serveBlobs();
    const disk = mountPoint();
    await runOk('mount', ['-t', 'tmpfs', 'tmpfs', disk]);
    const layer = new StoredLayer(disk, { size: MiB, spanSize: MiB });
    await layer.complete();
    for (const [name, passthrough] of [
      ['plain', false],
      ['direct', true],
    ] as const) {
      server.addBlob(name, layer.cache, { passthrough });
      expect(await sumOf(`${dir}/${name}`)).toBe(sha256(layer.bytes));
    }
    await layer.cache.close();
    server.removeBlob('plain');
    server.removeBlob('direct');
    // RELEASE of the file that was read reaches us after its close(2).
    await expect.poll(async () => (await run('umount', [disk])).code).toBe(0);
  });

  it('answers the error that a span failed with, and reads it again when asked again', async () => {
    const messages: string[] = [];
    const { server, dir } = await serveBlobs({ onError: (message) => messages.push(message) });
    const layer = newLayer(MiB, MiB / 2);
    layer.cache.onMiss((spans) => {
      for (const span of spans) layer.cache.fail(span, 'EIO');
    });
    server.addBlob('a', layer.cache, { passthrough: false });
    const first = await run('dd', [`if=${dir}/a`, 'of=/dev/null', 'bs=4096', 'count=1']);
    expect(first.err).toContain('Input/output error');
    expect(server.stats().errors).toBeGreaterThan(0);
    expect(messages[0]).toMatch(/^read of node 2 at 0 answered EIO$/);
    layer.serve();
    expect((await run('dd', [`if=${dir}/a`, 'of=/dev/null', 'bs=4096', 'count=1'])).code).toBe(0);
  });

  it('ends with the mount', async () => {
    const { server, dir } = await serveBlobs();
    await unmount(dir, { detach: false });
    expect(await server.closed).toEqual({ reason: 'unmounted' });
    await server.stop();
  });

  it('stops while reads wait, and the mount can be taken down', async () => {
    const { server, dir } = await serveBlobs();
    const layer = newLayer(MiB, MiB);
    layer.serve({ stalled: true });
    server.addBlob('a', layer.cache, { passthrough: false });
    const reader = run('cat', [`${dir}/a`]);
    await until(() => layer.misses.length > 0);
    await server.stop();
    expect(await server.closed).toEqual({ reason: 'stopped' });
    expect((await reader).code).toBe(1);
    expect((await run('stat', [`${dir}/a`])).err).toMatch(/not connected|aborted/);
    await unmount(dir, { detach: false });
  });

  it('ends a stalled read when its reader is killed', async () => {
    const { server, dir } = await serveBlobs();
    const layer = newLayer(MiB, MiB);
    layer.serve({ stalled: true });
    server.addBlob('a', layer.cache, { passthrough: false });
    // Nothing ever brings the span: that cat ends at all is what is tested.
    const { signal } = await run('cat', [`${dir}/a`], { timeout: 500 });
    expect(signal).toBe('SIGKILL');
  });

  it('serves cached bytes while JavaScript is busy', async () => {
    const { server, dir } = await serveBlobs();
    const layer = newLayer(128 * MiB, MiB);
    await layer.fill();
    server.addBlob('a', layer.cache, { passthrough: false });
    const sum = path.join(tempDir(), 'sum');
    const reader = runOk('bash', ['-c', `sha256sum ${dir}/a > ${sum}.part && mv ${sum}.part ${sum}`]);
    busyUntil(sum);
    await reader;
    expect(readFileSync(sum, 'utf8').split(' ')[0]).toBe(sha256(layer.bytes));
  });

  it('goes on serving one layer while 2000 reads of another wait', async () => {
    const { server, dir } = await serveBlobs();
    const stuck = newLayer(2000 * 16 * 4096, MiB);
    stuck.serve({ stalled: true });
    const well = newLayer(MiB, MiB / 4);
    well.serve();
    server.addBlob('stuck', stuck.cache, { passthrough: false });
    server.addBlob('well', well.cache, { passthrough: false });
    const python = `
import os, sys, threading
fd = os.open(sys.argv[1], os.O_RDONLY)
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
threading.stack_size(65536)
def one(i):
    os.pread(fd, 4096, i * 65536)
for i in range(2000): threading.Thread(target=one, args=(i,), daemon=True).start()
print('started', flush=True)
threading.Event().wait()`;
    let reader: ChildProcess | undefined;
    const readers = run('python3', ['-c', python, `${dir}/stuck`], { onStart: (child) => (reader = child) });
    await until(() => server.stats().waiting >= 2000, 15_000);
    expect(await sumOf(`${dir}/well`)).toBe(sha256(well.bytes));
    expect(server.stats().waiting).toBeGreaterThanOrEqual(2000);
    // Nothing ever answers them: that the process ends at all is what is tested.
    reader?.kill('SIGKILL');
    expect((await readers).signal).toBe('SIGKILL');
  });
});

async function until(condition: () => boolean, timeout = 5000): Promise<void> {
  const end = Date.now() + timeout;
  while (!condition()) {
    if (Date.now() > end) throw new Error('it did not happen in time');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
