import { mkdirSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { rootfsUser } from '../../src/image/rootfs-user.ts';
import { tempDir } from '../support/tmp.ts';

const passwd = `
root:x:0:0:root:/root:/bin/sh
daemon:x:1:2::
broken:x:one:1:::
+::::::
app:x:1000:1001:App:/home/app:/bin/sh
twin:x:1000:9:Twin:/home/twin:/bin/sh
7:x:70:71::/seven:
`;
const group = `root:x:0:
app:x:1001:
wheel:x:10:other,app
tape:x:11:app
tape2:x:11:app
bad:x:x:app
`;

/** A directory with `etc/`, and beside it files that no image may see. */
function tree(files: Readonly<Record<string, string>> = { passwd, group }): string {
  const dir = tempDir();
  const rootfs = join(dir, 'rootfs');
  mkdirSync(join(rootfs, 'etc'), { recursive: true });
  writeFileSync(join(dir, 'passwd'), 'app:x:666:666::/outside:\n');
  for (const [name, text] of Object.entries(files)) writeFileSync(join(rootfs, 'etc', name), text);
  return rootfs;
}

describe("an image's user", () => {
  it.each([
    ['', 0, 0, [], '/root'],
    ['root', 0, 0, [], '/root'],
    ['daemon', 1, 2, [], undefined],
    ['app', 1000, 1001, [10, 11], '/home/app'],
    ['1000', 1000, 1001, [10, 11], '/home/app'],
    ['twin', 1000, 9, [], '/home/twin'],
    ['app:tape', 1000, 11, [], '/home/app'],
    ['app:77', 1000, 77, [], '/home/app'],
    [':wheel', 0, 10, [], '/root'],
    ['7', 7, 0, [], undefined],
    ['4711:4712', 4711, 4712, [], undefined],
    ['2147483647', 2147483647, 0, [], undefined],
  ] as const)('%j is found as runtimes find it', async (spec, uid, gid, additionalGids, home) => {
    expect(await rootfsUser(tree(), spec)).toEqual({ uid, gid, additionalGids, home });
  });

  it.each(['broken', 'nobody', 'app:nobody', 'app:bad', '+', '-1', '2147483648', 'app:-1', '99999999999999999999'])(
    '%j is refused',
    async (spec) => {
      await expect(rootfsUser(tree(), spec)).rejects.toMatchObject({
        code: 'ERR_IMAGE_CONTENT',
        message: expect.stringContaining(JSON.stringify(spec)),
      });
    },
  );

  it('is a number where the image has no files, and a name is not', async () => {
    const rootfs = tree({});
    expect(await rootfsUser(rootfs, '')).toEqual({ uid: 0, gid: 0, additionalGids: [], home: undefined });
    expect(await rootfsUser(rootfs, '5:6')).toMatchObject({ uid: 5, gid: 6 });
    await expect(rootfsUser(rootfs, 'root')).rejects.toMatchObject({ code: 'ERR_IMAGE_CONTENT' });
  });
});

describe('the files that say it', () => {
  it.each(['/usr/lib/passwd', '../usr/lib/passwd', '../../../../usr/./lib/../lib/passwd', '/etc/hop'])(
    'are found inside behind the link %s',
    async (link) => {
      const rootfs = tree({});
      mkdirSync(join(rootfs, 'usr/lib'), { recursive: true });
      writeFileSync(join(rootfs, 'usr/lib/passwd'), passwd);
      symlinkSync('../usr/lib/passwd', join(rootfs, 'etc/hop'));
      symlinkSync(link, join(rootfs, 'etc/passwd'));
      expect(await rootfsUser(rootfs, 'app')).toMatchObject({ uid: 1000 });
    },
  );

  it.each([
    ['upwards', (rootfs: string) => symlinkSync('../../passwd', join(rootfs, 'etc/passwd'))],
    ['by an absolute path', (rootfs: string) => symlinkSync(join(rootfs, '../passwd'), join(rootfs, 'etc/passwd'))],
    ['in a circle', (rootfs: string) => symlinkSync('passwd', join(rootfs, 'etc/passwd'))],
    ['to a directory', (rootfs: string) => mkdirSync(join(rootfs, 'etc/passwd'))],
    ['to a pipe', (rootfs: string) => execFileSync('mkfifo', [join(rootfs, 'etc/passwd')])],
    ['through a file', (rootfs: string) => symlinkSync('/etc/group/passwd', join(rootfs, 'etc/passwd'))],
  ])('are not there when the way leads %s', async (_, make) => {
    const rootfs = tree({ group });
    make(rootfs);
    await expect(rootfsUser(rootfs, 'app')).rejects.toMatchObject({ code: 'ERR_IMAGE_CONTENT' });
    expect(await rootfsUser(rootfs, '')).toMatchObject({ uid: 0 });
  });

  it('are not read when `etc` itself leads out', async () => {
    const dir = tempDir();
    const [rootfs, outside] = [join(dir, 'rootfs'), join(dir, 'outside')];
    mkdirSync(rootfs);
    mkdirSync(outside);
    writeFileSync(join(outside, 'passwd'), passwd);
    symlinkSync('../outside', join(rootfs, 'etc'));
    await expect(rootfsUser(rootfs, 'app')).rejects.toMatchObject({ code: 'ERR_IMAGE_CONTENT' });
  });

  it('are refused when they are huge', async () => {
    const rootfs = tree();
    truncateSync(join(rootfs, 'etc/passwd'), 2 ** 40);
    await expect(rootfsUser(rootfs, 'app')).rejects.toMatchObject({ code: 'ERR_IMAGE_CONTENT' });
  });
});
