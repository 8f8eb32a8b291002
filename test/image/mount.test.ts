import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { sha256, ImageLab, labLayer } from '../support/image-lab.ts';
import type { LabImage } from '../support/image-lab.ts';
import { canMount } from '../support/peel-node.ts';
import { run, runOk, start, stop } from '../support/run.ts';
import { onNode, serve } from '../support/serving.ts';
import type { NodeProcess } from '../support/serving.ts';
import { tarOf } from '../support/tar-members.ts';
import type { Described } from '../support/tar-members.ts';

const data = randomBytes(700_000);
const lower: Described[] = [
  { path: './', type: 'dir', mode: 0o751, uid: 12, gid: 34, mtime: 1_500_000_000 },
  { path: 'etc', type: 'dir' },
  { path: 'etc/gone', data: 'gone' },
  { path: 'etc/hello', data: 'old' },
  { path: 'big', data, mode: 0o600 },
];
const upper: Described[] = [
  { path: 'etc/.wh.gone', data: '' },
  { path: 'etc/hello', data: 'hello\n', mtime: 1_600_000_000 },
  { path: 'link', type: 'symlink', link: 'etc/hello' },
  { path: 'big2', type: 'hardlink', link: 'big' },
  { path: Buffer.from([0x66, 0xff]), data: 'not UTF-8' },
];

interface Place extends NodeProcess {
  readonly lab: ImageLab;
  readonly dir: string;
  readonly image: LabImage;
}

async function place(): Promise<Place> {
  const lab = await ImageLab.start();
  const image = await lab.push('1', [
    labLayer(tarOf(...lower)),
    labLayer(tarOf(...upper, { path: 'big', data, mode: 0o600 }), 'gzip'),
  ]);
  await lab.pushIndex({ ...image, layers: image.layers.slice(0, 1) }, { spanSize: 64 << 10 });
  const dir = join(lab.dir, 'mnt');
  mkdirSync(dir);
  onTestFinished(async () => {
    for (let i = 0; i < 3; i++) await run('umount', ['-l', dir]);
  });
  return { lab, dir, image, root: join(lab.dir, 'root'), runDir: join(lab.dir, 'run') };
}

const umount = (at: Place, options = {}) =>
  onNode(at, `await node.unmount(${JSON.stringify(at.dir)}, ${JSON.stringify(options)});`);
const inTable = (dir: string) => readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${dir} `);

describe.skipIf(!canMount)('a mounted image', () => {
  it.each(['kernel', 'native', 'fuse-native'])(
    'has the names, attributes and bytes of its layers: %s',
    async (transport) => {
      const at = await place();
      const { row, warnings, child } = await serve(at, { reference: at.image.reference, dir: at.dir, transport });
      expect(row.transport).toBe(transport);
      const carried = transport !== 'fuse-native';
      expect(warnings).toHaveLength(carried ? 0 : 1);
      const names = (await runOk('find', [at.dir, '-printf', '%P\\0'])).split('\0').filter(Boolean).sort();
      expect(names).toEqual(['big', 'big2', 'etc', 'etc/hello', 'link', ...(carried ? ['f\ufffd'] : [])].sort());
      expect(await runOk('cat', [join(at.dir, 'link')])).toBe('hello\n');
      expect(await runOk('stat', ['-c', '%a %s %Y %F', join(at.dir, 'etc/hello')])).toBe(
        '644 6 1600000000 regular file\n',
      );
      expect((await runOk('sha256sum', [join(at.dir, 'big')])).slice(0, 64)).toBe(sha256(data).slice(7));
      const ended = once(child, 'close');
      await umount(at);
      await ended;
      expect(inTable(at.dir)).toBe(false);
      expect(await onNode(at, 'say(await node.mounts());')).toEqual([]);
    },
  );

  it('takes the fastest transport that works, and says which and why', async () => {
    const at = await place();
    const { row, child } = await serve(at, { reference: at.image.reference, dir: at.dir, transport: 'auto' });
    expect(row.transport).toBe('kernel');
    expect(await onNode(at, 'say(await node.mounts());')).toMatchObject([
      { dir: at.dir, transport: 'kernel', alive: true, state: 'serving' },
    ]);
    await runOk('umount', [at.dir]);
    await once(child, 'close');
    expect(await onNode(at, 'say(await node.mounts());')).toEqual([]);
  });

  it.each(['kernel', 'native'])('can be written to with --rw, and ends with its overlay: %s', async (transport) => {
    const at = await place();
    const kept = join(at.lab.dir, 'kept');
    const options = { reference: at.image.reference, dir: at.dir, transport, writable: true, upper: kept };
    const first = await serve(at, options);
    expect((await runOk('stat', ['-c', '%a %u:%g %Y', at.dir])).trim()).toBe('751 12:34 1500000000');
    await runOk('sh', ['-c', 'echo new > new && rm etc/hello && echo more >> big'], { cwd: at.dir });
    expect((await runOk('stat', ['-c', '%s', join(at.dir, 'big')])).trim()).toBe(String(data.length + 5));
    const other = { ...at, dir: join(at.lab.dir, 'other') };
    mkdirSync(other.dir);
    symlinkSync('kept', join(at.lab.dir, 'link'));
    await expect(serve(at, { ...options, dir: other.dir, upper: join(at.lab.dir, 'link') })).rejects.toThrow(
      /already holds the changes of the mount on/,
    );
    const ended = once(first.child, 'close');
    await umount(at);
    await ended;
    const second = await serve(at, options);
    expect(await runOk('sh', ['-c', 'cat new; ls etc'], { cwd: at.dir })).toBe('new\n');
    second.child.kill('SIGTERM');
    await once(second.child, 'close');
    expect(inTable(at.dir)).toBe(false);
  });

  it.each(['kernel', 'native', 'fuse-native'])(
    'leaves nothing behind when its process was killed and it is unmounted: %s',
    async (transport) => {
      const at = await place();
      const { child } = await serve(at, { reference: at.image.reference, dir: at.dir, transport });
      child.kill('SIGKILL');
      await once(child, 'close');
      expect(inTable(at.dir)).toBe(true);
      expect(await onNode(at, 'say(await node.mounts());')).toMatchObject([{ state: 'dead', alive: false }]);
      await umount(at);
      expect(inTable(at.dir)).toBe(false);
      expect(await onNode(at, 'say(await node.mounts());')).toEqual([]);
      const again = await serve(at, { reference: at.image.reference, dir: at.dir, transport });
      expect((await runOk('sha256sum', [join(at.dir, 'big')])).slice(0, 64)).toBe(sha256(data).slice(7));
      again.child.kill('SIGTERM');
      await once(again.child, 'close');
    },
  );

  it('is refused where it cannot be, before anything is fetched', async () => {
    const at = await place();
    const { reference } = at.image;
    const refusal = (dir: string) => serve(at, { reference, dir, transport: 'auto' });
    await expect(refusal(join(at.dir, 'missing'))).rejects.toThrow(/ERR_MOUNT_TARGET.*does not exist/);
    await expect(refusal(at.lab.dir)).rejects.toThrow(/ERR_MOUNT_TARGET.*not empty/);
    expect(at.lab.front.requests).toEqual([]);
    await serve(at, { reference, dir: at.dir, transport: 'native' });
    await expect(refusal(at.dir)).rejects.toThrow(/ERR_MOUNT_TARGET.*already mounted/);
    const busy = await start('sh', ['-c', 'echo here; exec sleep 60'], /here/, { cwd: at.dir });
    await expect(umount(at)).rejects.toThrow(/ERR_MOUNT_BUSY/);
    await stop(busy.child);
    await umount(at);
    await expect(umount(at)).rejects.toThrow(/ERR_MOUNT_UNKNOWN/);
  });

  it('keeps its layers in the cache while it is mounted', async () => {
    const at = await place();
    await serve(at, { reference: at.image.reference, dir: at.dir, transport: 'native' });
    const pruned = await onNode<{ removed: string[]; busy: string[] }>(at, 'say(await node.pruneCache(0));');
    expect(pruned).toMatchObject({ removed: [], busy: { length: 2 } });
    await umount(at);
    expect(await onNode(at, 'say(await node.pruneCache(0));')).toMatchObject({ removed: { length: 2 }, busy: [] });
  });
});
