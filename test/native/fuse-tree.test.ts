import type { ChildProcess } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { FuseServer } from '../../src/native/fuse-server.ts';
import { erofsMount, fuseMount, openFuseDevice, overlayMount, unmount } from '../../src/native/mounts.ts';
import { writeErofs } from '../../src/tree/erofs-writer.ts';
import { busyUntil } from '../support/busy-until.ts';
import { listTree, treeDifference } from '../support/list-tree.ts';
import { attached } from '../support/mounted.ts';
import { run, runOk } from '../support/run.ts';
import { manyFiles, sampleStreams, sampleTree } from '../support/sample-tree.ts';
import { StoredLayer } from '../support/stored-layer.ts';
import { tempDir } from '../support/tmp.ts';

interface Served {
  readonly server: FuseServer;
  readonly dir: string;
  readonly tree: string;
  readonly layers: readonly StoredLayer[];
}

async function serveTree(): Promise<Served> {
  const tree = path.join(tempDir(), 'tree.erofs');
  await writeFile(tree, writeErofs(sampleTree()));
  const layers = sampleStreams.map((size) => new StoredLayer(tempDir(), { size, spanSize: 256 << 10 }));
  onTestFinished(async () => {
    for (const layer of layers) await layer.cache.close();
  });
  const fd = openFuseDevice();
  const mount = await fuseMount({ fd, allowOther: true });
  const server = FuseServer.tree({ fd, tree, caches: layers.map((layer) => layer.cache) });
  onTestFinished(() => server.stop());
  return { server, dir: await attached(mount), tree, layers };
}

describe('FuseServer.tree', () => {
  it('shows the same tree as the kernel shows of the same image', async () => {
    const { dir, tree, layers, server } = await serveTree();
    for (const layer of layers) layer.serve();
    const ours = await listTree(dir);
    const devices = layers.map((layer) => path.join(layer.dir, 'data'));
    const kernels = await listTree(
      await attached(await erofsMount({ source: tree, devices, directIo: false, noSuidDev: true })),
    );
    expect(treeDifference(ours, kernels)).toBe('');
    expect(ours.length).toBeGreaterThan(manyFiles);
    expect(server.stats().errors).toBe(0);
  });

  it('finds every name and knows which are not there', async () => {
    const { dir, server } = await serveTree();
    expect((await runOk('bash', ['-c', `cd ${dir}/many && stat -c %n f{0..2999} | wc -l`])).trim()).toBe('3000');
    expect(
      (await run('bash', ['-c', `cd ${dir}/many && stat f3000 f a zzz ./f12a`])).err.match(/No such file/g),
    ).toHaveLength(5);
    const before = server.stats().lookups;
    await run('stat', [`${dir}/many/f3000`]);
    expect(server.stats().lookups).toBe(before);
  });

  it('keeps reading to the end of a directory that is listed in pieces', async () => {
    const { dir } = await serveTree();
    const python = `
import os, sys, ctypes
names = set()
fd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)
libc = ctypes.CDLL(None, use_errno=True)
buf = ctypes.create_string_buffer(512)
while (n := libc.syscall(217, fd, buf, 512)) > 0:
    at = 0
    while at < n:
        size = int.from_bytes(buf.raw[at + 16:at + 18], 'little')
        names.add(buf.raw[at + 19:at + size].split(b'\\0')[0])
        at += size
print(len(names))`;
    expect((await runOk('python3', ['-c', python, `${dir}/many`])).trim()).toBe(String(manyFiles + 2));
  });

  it('carries a writable overlay', async () => {
    const { dir, layers } = await serveTree();
    for (const layer of layers) layer.serve();
    const scratch = tempDir();
    const [upper, work] = ['upper', 'work'].map((name) => path.join(scratch, name));
    for (const made of [upper, work]) mkdirSync(made ?? '');
    const over = await attached(await overlayMount({ lower: [dir], upper, work, noSuidDev: true }));
    // Not listTree: without xino, an overlay's d_ino is not its st_ino.
    const list = `find . -type f -exec sha256sum {} + -o -printf '%p %y %m %l\\n' | LC_ALL=C sort`;
    expect(await runOk('sh', ['-ec', list], { cwd: over })).toBe(await runOk('sh', ['-ec', list], { cwd: dir }));
    const script = `cd ${over} && rm -r many && mv deep/inner moved && echo x >> one && cp /bin/true run && ./run && ls`;
    const names = (await runOk('sh', ['-ec', script])).split('\n');
    expect(names).toContain('moved');
    expect(names).not.toContain('many');
    await unmount(over, { detach: false });
  });

  it('tells data from holes', async () => {
    const { dir, layers } = await serveTree();
    for (const layer of layers) layer.serve();
    const python = `
import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
at, size, out = 0, os.fstat(fd).st_size, []
while at < size:
    try: start = os.lseek(fd, at, os.SEEK_DATA)
    except OSError: break
    at = os.lseek(fd, start, os.SEEK_HOLE)
    out.append(f'{start}-{at}')
print(' '.join(out))`;
    const data = await runOk('python3', ['-c', python, `${dir}/sparse`]);
    expect(data.trim()).toBe(`8192-12288 ${512 << 10}-${(512 << 10) + 1024}`);
    expect((await runOk('python3', ['-c', python, `${dir}/big`])).trim()).toBe(`0-${(3 << 20) + 17}`);
  });

  it('answers xattrs by name and by list, trusted ones to root alone', async () => {
    const { dir } = await serveTree();
    const dump = await runOk('getfattr', ['-d', '-m', '-', '--absolute-names', '-e', 'hex', `${dir}/tagged`]);
    expect(dump).toContain('user.colour=0x677265656e00626c7565');
    expect(dump).toContain('security.capability=0x01000002002000');
    expect(dump).toContain('trusted.mark=0x74');
    expect(dump).toContain(`user.long=0x${'07'.repeat(3000)}`);
    const plain = await runOk('setpriv', [
      '--reuid=65534',
      '--clear-groups',
      'getfattr',
      '-d',
      '-m',
      '-',
      '--absolute-names',
      `${dir}/tagged`,
    ]);
    expect(plain).toContain('user.colour');
    expect(plain).not.toContain('trusted');
    expect((await run('getfattr', ['-n', 'user.none', `${dir}/tagged`])).err).toContain('No such attribute');
  });

  it('keeps a 0600 file from other users, and lets an ACL open one', async () => {
    const { dir, layers } = await serveTree();
    for (const layer of layers) layer.serve();
    const as = (uid: number, ...command: string[]) =>
      run('setpriv', [`--reuid=${uid}`, '--regid=65534', '--clear-groups', ...command]);
    expect((await as(65534, 'cat', `${dir}/secret`)).err).toContain('Permission denied');
    expect((await as(65534, 'ls', `${dir}/closed`)).err).toContain('Permission denied');
    expect((await as(65534, 'cat', `${dir}/shared-file`)).err).toContain('Permission denied');
    expect((await as(1000, 'cat', `${dir}/shared-file`)).code).toBe(0);
    expect((await as(65534, 'cat', `${dir}/one`)).code).toBe(0);
    expect((await run('touch', [`${dir}/new`])).err).toContain('Read-only file system');
  });

  it('finds an inode again by its handle', async () => {
    const { dir } = await serveTree();
    const python = `
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
class Handle(ctypes.Structure): _fields_ = [('size', ctypes.c_uint), ('type', ctypes.c_int), ('bytes', ctypes.c_ubyte * 128)]
handle, mount = Handle(128), ctypes.c_int()
if libc.name_to_handle_at(-100, os.fsencode(sys.argv[1]), ctypes.byref(handle), ctypes.byref(mount), 0): raise OSError(ctypes.get_errno())
open('/proc/sys/vm/drop_caches', 'w').write('2')
fd = libc.open_by_handle_at(os.open(sys.argv[2], os.O_RDONLY), ctypes.byref(handle), os.O_RDONLY)
if fd < 0: raise OSError(ctypes.get_errno())
print(os.fstat(fd).st_ino)`;
    const ino = await runOk('stat', ['-c', '%i', `${dir}/deep/inner`]);
    expect(await runOk('python3', ['-c', python, `${dir}/deep/inner`, dir])).toBe(ino);
  });

  it('looks names up and reads cached bytes while JavaScript is busy', async () => {
    const { dir, layers } = await serveTree();
    for (const layer of layers) await layer.fill();
    const python = `
import os, sys
os.chdir(sys.argv[1])
for i in range(10000):
    try: os.lstat(f'many/x{i}')
    except FileNotFoundError: pass
for i in range(35):
    fd = os.open('big', os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    while os.read(fd, 1 << 20): pass
open(sys.argv[2], 'x')`;
    const done = path.join(tempDir(), 'done');
    const child = runOk('python3', ['-c', python, dir, done]);
    busyUntil(done);
    await child;
  });

  it('ends with the mount', async () => {
    const { dir, server } = await serveTree();
    await unmount(dir, { detach: false });
    expect(await server.closed).toEqual({ reason: 'unmounted' });
  });

  it('refuses what is no image, and the wrong number of layers', async () => {
    const dir = tempDir();
    const image = writeErofs(sampleTree());
    const fd = openFuseDevice();
    const serve = async (bytes: Uint8Array): Promise<unknown> => {
      const tree = path.join(dir, 'tree');
      await writeFile(tree, bytes);
      return FuseServer.tree({ fd, tree, caches: [] });
    };
    await expect(serve(image)).rejects.toMatchObject({ code: 'EINVAL' });
    await expect(serve(image.subarray(0, 1024))).rejects.toMatchObject({ code: 'EUCLEAN' });
    await expect(serve(Buffer.alloc(8192))).rejects.toMatchObject({ code: 'EUCLEAN' });
  });

  it('keeps a read waiting through harmless signals, and still lets it be killed', async () => {
    const { dir, layers } = await serveTree();
    const layer = layers[0];
    if (!layer) throw new Error('no layer');
    layer.serve({ stalled: true });
    const python = `
import os, signal, sys
signal.signal(signal.SIGUSR1, lambda *_: None)
signal.siginterrupt(signal.SIGUSR1, False)
print(os.getpid(), flush=True)
fd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
import mmap
buf = mmap.mmap(-1, 4096)
print(os.preadv(fd, [buf], int(sys.argv[2])), flush=True)`;
    let child: ChildProcess | undefined;
    const onStart = (started: ChildProcess): void => {
      child = started;
    };
    const reader = run('python3', ['-c', python, `${dir}/big`, '0'], { onStart });
    await until(() => layer.misses.length > 0);
    child?.kill('SIGUSR1');
    await new Promise((resolve) => setTimeout(resolve, 300));
    await layer.bring(0);
    expect((await reader).out.trim().split('\n')[1]).toBe('4096');

    const second = run('python3', ['-c', python, `${dir}/big`, String(1 << 20)], { onStart });
    await until(() => layer.misses.length > 1);
    child?.kill('SIGUSR1');
    await new Promise((resolve) => setTimeout(resolve, 300));
    // The span never comes: that the process ends at all is what is tested.
    child?.kill('SIGKILL');
    expect((await second).signal).toBe('SIGKILL');
  });
});

async function until(condition: () => boolean, timeout = 5000): Promise<void> {
  const end = Date.now() + timeout;
  while (!condition()) {
    if (Date.now() > end) throw new Error('it did not happen in time');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
