// Places that a person names and that cannot be used: each is refused at once, by its name, with what to do.
import { mkdir, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildImage, writeLayout } from '../support/image-builder.ts';
import { mountsBelow } from '../support/leftovers.ts';
import { canMount, PeelNode } from '../support/peel-node.ts';
import { peelMain, run, runOk } from '../support/run.ts';

const node = new PeelNode();
const image = `oci:${node.dir}/layout:1`;

beforeAll(async () => {
  const [source, tar] = [path.join(node.dir, 'source'), path.join(node.dir, 'layer.tar')];
  await mkdir(source);
  await writeFile(path.join(source, 'file'), 'content');
  await runOk('tar', ['-C', source, '-cf', tar, '.']);
  const built = await buildImage(path.join(node.dir, 'blobs'), [{ tar, compression: 'none' }]);
  await writeLayout(path.join(node.dir, 'layout'), '1', built);
});
afterAll(() => node.close());

describe('peel registry serve', () => {
  it('refuses a directory that cannot be made before it serves', async () => {
    const { code, out, err } = await node.peel(['registry', 'serve', '--root', '/proc/peel', '--listen', ':0']);
    expect([code, out]).toEqual([1, '']);
    expect(err).toMatch(/^peel: \/proc\/peel cannot hold a registry \(ENOENT\): .*--root\n$/);
  });

  it.each(['nowhere', '127.0.0.1:99999', '127.0.0.1:x'])('takes %s for wrong usage', async (address) => {
    const { code, err } = await node.peel(['registry', 'serve', '--root', node.dir, '--listen', address]);
    expect([code, err]).toEqual([2, `peel: --listen ${address}: expected HOST:PORT or :PORT\n`]);
  });

  it('says that an address is taken', async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
    const address = `127.0.0.1:${(taken.address() as { port: number }).port}`;
    const { code, err } = await node.peel(['registry', 'serve', '--root', node.dir, '--listen', address]);
    taken.close();
    expect(code).toBe(1);
    expect(err).toContain(`cannot listen on ${address}: something else listens there already`);
  });
});

describe('a layout', () => {
  it.each([
    ['inspect', `oci:${node.dir}/layout:none`],
    ['inspect', `oci:${node.dir}/nothing:1`],
    ['copy', `oci:${node.dir}/layout:none`, `oci:${node.dir}/copy:1`],
    ['copy', `oci:${node.dir}/layout@sha256:${'0'.repeat(64)}`, `oci:${node.dir}/copy:1`],
    ['copy', `oci:${node.dir}/nothing:1`, `oci:${node.dir}/copy:1`],
  ])('is named by its path when it does not have what is asked for: %s %s', async (...args) => {
    const { code, err } = await node.peel(args);
    expect(code).toBe(1);
    expect(err).toMatch(/not found in oci image layout|is not an oci image layout/);
    expect(err).toContain(/^oci:([^:@]*)/.exec(args[1] ?? '')?.[1]);
  });
});

describe('a directory to mount on or to unmount', () => {
  it('that does not exist: only mount says to make it', async () => {
    const missing = path.join(node.dir, 'missing');
    const create = `peel: ${missing} does not exist: create the directory first\n`;
    expect(await node.peel(['mount', image, missing])).toMatchObject({ code: 1, err: create });
    expect(await node.peel(['umount', missing])).toMatchObject({ code: 1, err: `peel: ${missing} does not exist\n` });
  });

  it('whose name is not UTF-8 is refused for that', async () => {
    const script = `d=$(printf '%s/m\\377' "$4"); mkdir "$d"; exec "$1" "$2" mount "$3" "$d"`;
    const args = ['-c', script, 'bash', process.execPath, peelMain, image, node.dir];
    const { code, err } = await run('bash', args, { env: node.env });
    expect(code).toBe(1);
    expect(err).toMatch(/only directories with a name in UTF-8/);
  });

  it.skipIf(!canMount)('that is mounted already: the way out can be pasted', async () => {
    const dir = await node.newDir("it's, a:b\\c");
    await node.ok(['mount', image, dir]);
    const { code, err } = await node.peel(['mount', image, dir]);
    expect(code).toBe(1);
    const command = /\((peel umount .*) frees it\)/.exec(err)?.[1] ?? '';
    await runOk('bash', ['-c', `peel() { "${process.execPath}" "${peelMain}" "$@"; }; ${command}`], { env: node.env });
    expect(mountsBelow(node.dir)).toEqual([]);
  });
});

describe.skipIf(!canMount)('a state directory without space', () => {
  it('does not keep a mount from being taken away', async () => {
    const disk = await node.newDir('disk');
    await runOk('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'none', disk]);
    const full = new PeelNode(path.join(disk, 'root'));
    try {
      const dir = await full.mount(image, 'native');
      await run('dd', ['if=/dev/zero', `of=${disk}/rest`, 'bs=4k']);
      const refused = await full.peel(['mount', image, await full.newDir()]);
      expect([refused.code, refused.err]).toEqual([1, expect.stringMatching(/^peel: .*no space left/i)]);
      expect(await full.peel(['umount', dir])).toMatchObject({ code: 0, err: '' });
      expect(mountsBelow(full.dir)).toEqual([]);
      expect(await full.json(['mounts'])).toEqual([]);
    } finally {
      await full.close();
      await runOk('umount', [disk]);
    }
  });
});

describe.skipIf(!canMount)('without a usable /dev/fuse', () => {
  const peelWith = (prepare: string, ...args: string[]) => {
    const script = `${prepare}; node=$1; shift; exec "$node" "$@"`;
    return run('unshare', ['-m', 'bash', '-c', script, 'bash', process.execPath, peelMain, ...args], {
      env: node.env,
    });
  };
  const noDevice =
    'd=$(mktemp -d); mount -t tmpfs none $d; for n in null zero urandom; do cp -a /dev/$n $d/; done; mount --move $d /dev 2>/dev/null || mount --bind $d /dev';

  it.each([
    ['there is none', noDevice, 'there is no /dev/fuse'],
    ['it is something else', 'mount --bind /dev/null /dev/fuse', '/dev/fuse is not the FUSE device'],
  ])('mount says so once, and so does doctor: %s', async (_, prepare, reason) => {
    const dir = await node.newDir();
    const mounted = await peelWith(prepare, 'mount', image, dir);
    expect(mounted.code).toBe(1);
    expect(mounted.err.split(reason)).toHaveLength(2);
    const doctor = await peelWith(prepare, 'doctor', '--json');
    expect(doctor.code).toBe(1);
    const broken = (JSON.parse(doctor.out) as { what: string; state: string }[]).filter((f) => f.state === 'broken');
    expect(broken).toMatchObject([{ what: '/dev/fuse', found: expect.stringContaining(reason) }]);
    expect((await peelWith(prepare, 'cat', image, '/file')).out).toBe('content');
  });
});
