import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { chmod, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { probeErofs } from '../../src/native/erofs-probe.ts';
import { FuseServer } from '../../src/native/fuse-server.ts';
import { erofsMount, fuseMount, openFuseDevice, overlayMount, unmount } from '../../src/native/mounts.ts';
import { probePassthrough } from '../../src/native/passthrough-probe.ts';
import { canDirectIo } from '../../src/native/sys.ts';
import { writeErofs } from '../../src/tree/erofs-writer.ts';
import { listTree } from '../support/list-tree.ts';
import { attached, mountPoint } from '../support/mounted.ts';
import { run, runOk, start } from '../support/run.ts';
import { sampleStreams, sampleTree } from '../support/sample-tree.ts';
import { StoredLayer } from '../support/stored-layer.ts';
import { tempDir } from '../support/tmp.ts';

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

interface Kernel {
  readonly server: FuseServer;
  readonly dir: string;
  readonly layers: readonly StoredLayer[];
  /** Of the layer streams' filesystem, as mountinfo has it. */
  readonly device: string;
}

/** EROFS in the kernel over layer streams that a FUSE server gives it. */
async function kernelMount(o: { directIo: boolean; complete: boolean }): Promise<Kernel> {
  const tree = path.join(tempDir(), 'tree.erofs');
  await writeFile(tree, writeErofs(sampleTree()));
  const layers = sampleStreams.map((size) => new StoredLayer(tempDir(), { size, spanSize: 256 << 10 }));
  onTestFinished(async () => {
    for (const layer of layers) await layer.cache.close();
  });
  const fd = openFuseDevice();
  const blobs = await fuseMount({ fd, allowOther: false });
  const server = FuseServer.blobs({ fd });
  onTestFinished(() => server.stop());
  for (const [i, layer] of layers.entries()) {
    if (o.complete) await layer.complete();
    else layer.serve();
    server.addBlob(i.toString(36), layer.cache, { passthrough: o.complete });
  }
  const devices = layers.map((_, i) => `${blobs.path}/${i.toString(36)}`);
  const mount = await erofsMount({ source: tree, devices, directIo: o.directIo, noSuidDev: false });
  // Not from the JavaScript thread, and answered without it.
  const { dev } = await stat(blobs.path);
  blobs.close();
  return { server, dir: await attached(mount), layers, device: `${dev >> 8}:${dev & 0xff}` };
}

describe('mounts', () => {
  it.each([
    { directIo: false, complete: false },
    { directIo: true, complete: false },
    { directIo: false, complete: true },
    { directIo: true, complete: true },
  ])('reads an EROFS image over blobs with %o', async (o) => {
    const { server, dir, layers } = await kernelMount(o);
    const big = layers[0]?.bytes.subarray(4096, 4096 + (3 << 20) + 17) ?? Buffer.alloc(0);
    expect((await runOk('sha256sum', [`${dir}/big`])).split(' ')[0]).toBe(sha256(big));
    await listTree(dir);
    expect(server.stats().errors).toBe(0);
    if (o.complete && server.stats().passthrough) expect(server.stats().reads).toBe(0);
    await unmount(dir, { detach: false });
    // Nothing else uses the layer streams: their connection ends with the image.
    expect(await server.closed).toEqual({ reason: 'unmounted' });
  });

  it('shows no layer streams in any mount table', async () => {
    const { dir, device } = await kernelMount({ directIo: true, complete: false });
    const table = (await runOk('cat', ['/proc/self/mountinfo'])).split('\n').map((line) => line.split(' '));
    expect(table.filter((fields) => fields[4] === dir)).toHaveLength(1);
    expect(table.filter((fields) => fields[2] === device)).toEqual([]);
  });

  it('puts a writable overlay on an image', async () => {
    const { dir } = await kernelMount({ directIo: true, complete: false });
    // A colon would split a lowerdir, and a value of the mount call ends at 255 bytes.
    const upper = path.join(tempDir(), `a:b,c\\d-${'u'.repeat(200)}`);
    mkdirSync(path.join(upper, 'w'.repeat(60)), { recursive: true });
    mkdirSync(path.join(upper, 'up'));
    const over = await attached(
      await overlayMount({
        lower: [dir],
        upper: path.join(upper, 'up'),
        work: path.join(upper, 'w'.repeat(60)),
        noSuidDev: true,
      }),
    );
    await runOk('sh', ['-c', `echo hello > ${over}/new && rm ${over}/one && echo more >> ${over}/big`]);
    expect(await runOk('sh', ['-c', `cat ${over}/new; test -e ${over}/one || echo gone; stat -c %s ${over}/big`])).toBe(
      `hello\ngone\n${(3 << 20) + 22}\n`,
    );
    await unmount(over, { detach: false });
  });

  it('names what could not be mounted', async () => {
    const dir = tempDir();
    const source = path.join(dir, 'tree');
    writeFileSync(source, Buffer.alloc(4096));
    const bad = erofsMount({ source, devices: [], directIo: false, noSuidDev: true });
    await expect(bad).rejects.toMatchObject({
      code: 'EINVAL',
      message: expect.stringContaining(`mount erofs ${source}`),
    });
    const missing = erofsMount({ source: path.join(dir, 'none'), devices: [], directIo: false, noSuidDev: true });
    await expect(missing).rejects.toMatchObject({ code: 'ENOENT' });
    await expect(unmount(dir, { detach: false })).rejects.toMatchObject({ code: 'EINVAL' });
  });

  it('does not follow a symlink to mount on', async () => {
    const dir = tempDir();
    mkdirSync(path.join(dir, 'real'));
    symlinkSync('real', path.join(dir, 'link'));
    const fd = openFuseDevice();
    const mount = await fuseMount({ fd, allowOther: false });
    const server = FuseServer.blobs({ fd });
    await expect(mount.attach(path.join(dir, 'link'))).rejects.toThrow('move_mount');
    expect(await server.closed).toEqual({ reason: 'unmounted' });
  });

  it('leaves a mount that can be taken down when its process is killed', async () => {
    const dir = mountPoint();
    const program = `
      import { FuseServer } from '${new URL('../../dist/native/fuse-server.js', import.meta.url).href}';
      import { fuseMount, openFuseDevice } from '${new URL('../../dist/native/mounts.js', import.meta.url).href}';
      const fd = openFuseDevice();
      const mount = await fuseMount({ fd, allowOther: false });
      FuseServer.blobs({ fd });
      await mount.attach(${JSON.stringify(dir)});
      console.log('ready');`;
    const { child } = await start(process.execPath, ['--input-type=module', '-e', program], /ready/);
    expect((await run('ls', [dir])).code).toBe(0);
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await gone;
    expect((await run('ls', [dir])).err).toContain('not connected');
    await unmount(dir, { detach: false });
    expect((await run('ls', [dir])).code).toBe(0);
  });

  it('ends a process that calls exit while it serves', async () => {
    const dir = mountPoint();
    const program = `
      import { FuseServer } from '${new URL('../../dist/native/fuse-server.js', import.meta.url).href}';
      import { fuseMount, openFuseDevice } from '${new URL('../../dist/native/mounts.js', import.meta.url).href}';
      const fd = openFuseDevice();
      const mount = await fuseMount({ fd, allowOther: false });
      FuseServer.blobs({ fd });
      await mount.attach(${JSON.stringify(dir)});
      setTimeout(() => process.exit(7), 50);`;
    expect(await run(process.execPath, ['--input-type=module', '-e', program])).toMatchObject({
      code: 7,
      signal: null,
    });
  });
});

describe('probes', () => {
  it('finds this kernel fit for images over devices that may fail, and cleans up', async () => {
    const dir = tempDir();
    const found = await probeErofs(dir);
    expect(found).toEqual({ supported: true, reason: 'EROFS answers an error for a device that ends early' });
    expect(readdirSync(dir)).toEqual([]);
  });

  it('gives the reason where images cannot be mounted', async () => {
    const found = await probeErofs('/proc/self');
    expect(found.supported).toBe(false);
    expect(found.reason).toContain('/proc/self');
  });

  it('finds files that the kernel can read by itself, and says why not where it cannot', async () => {
    const dir = tempDir();
    expect(await probePassthrough(dir)).toEqual({
      supported: true,
      reason: 'complete layers are read by the kernel itself',
    });
    expect(readdirSync(dir)).toEqual([]);
    for (const name of ['lower', 'upper', 'work']) mkdirSync(path.join(dir, name));
    const [lower, upper, work] = ['lower', 'upper', 'work'].map((name) => path.join(dir, name));
    const stacked = await attached(await overlayMount({ lower: [lower ?? ''], upper, work, noSuidDev: true }));
    expect(await probePassthrough(stacked)).toEqual({
      supported: false,
      reason: 'the files are on a stacked filesystem, which the kernel does not pass through',
    });
    expect((await probeErofs(stacked)).supported).toBe(false);
  });

  it('knows where O_DIRECT works', async () => {
    const file = path.join(tempDir(), 'file');
    await writeFile(file, Buffer.alloc(4096));
    expect(canDirectIo(file)).toBe(true);
    expect(canDirectIo('/proc/self/status')).toBe(false);
    await rm(file);
    expect(() => canDirectIo(file)).toThrow(expect.objectContaining({ code: 'ENOENT' }));
  });
});

describe('an ordinary user', () => {
  it('mounts and unmounts through fusermount3', async () => {
    const home = tempDir();
    await chmod(home, 0o777);
    const dir = path.join(home, 'mnt');
    const dist = (name: string): string => new URL(`../../dist/native/${name}.js`, import.meta.url).href;
    const program = `
      import { mkdirSync } from 'node:fs';
      import { spawn } from 'node:child_process';
      import { FuseServer } from '${dist('fuse-server')}';
      import { fuseMountUnprivileged, unmountUnprivileged } from '${dist('mounts')}';
      const dir = ${JSON.stringify(dir)};
      mkdirSync(dir);
      await fuseMountUnprivileged(dir + '/none').catch((error) => console.log(error.code, error.message));
      const server = FuseServer.blobs({ fd: await fuseMountUnprivileged(dir) });
      const child = spawn('sh', ['-c', 'ls -la ' + dir + ' | wc -l; grep -F " ' + dir + ' " /proc/self/mountinfo | grep -o "fuse.peel peel r[ow]"; stat -f -c %l ' + dir], { stdio: 'inherit' });
      await new Promise((resolve) => child.on('close', resolve));
      await unmountUnprivileged(dir, { detach: false });
      console.log((await server.closed).reason);`;
    // /dev/fuse is opened to everybody in a mount namespace of its own.
    const script = `mount --make-rprivate / && mknod -m 666 ${home}/fuse c 10 229 && mount --bind ${home}/fuse /dev/fuse && exec setpriv --reuid=65534 --regid=65534 --clear-groups env HOME=${home} "$@"`;
    const result = await run('unshare', [
      '-m',
      'sh',
      '-ec',
      script,
      'sh',
      process.execPath,
      '--input-type=module',
      '-e',
      program,
    ]);
    expect(result.err).toBe('');
    const lines = result.out.trim().split('\n');
    expect(lines[0]).toMatch(/^ERR_FUSERMOUNT fusermount3: .*No such file or directory/);
    expect(lines.slice(1)).toEqual(['3', 'fuse.peel peel ro', '255', 'unmounted']);
  });
});

describe('the end of a process', () => {
  it('does not wait for a mount helper that never answers', async () => {
    const addon = new URL('../../native/build/Release/peel.node', import.meta.url).pathname;
    const code = `const native = require(${JSON.stringify(addon)});
      const [ours] = native.mountFdSocket();
      native.mountReceiveFd(ours);
      setTimeout(() => process.exit(7), 200);`;
    expect((await run(process.execPath, ['-e', code], { timeout: 20_000 })).code).toBe(7);
  });
});
