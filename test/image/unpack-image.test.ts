import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Node } from '../../src/daemon/node.ts';
import { openNode } from '../../src/daemon/node.ts';
import { openDefaultUnpacker } from '../../src/daemon/unpacking.ts';
import { unpackImage } from '../../src/image/unpack-image.ts';
import type { UnpackedImage, UnpackImageOptions } from '../../src/image/unpack-image.ts';
import { memberLayer, shellLayer } from '../support/container-image.ts';
import { buildImage, writeLayout } from '../support/image-builder.ts';
import { run, runOk } from '../support/run.ts';
import { sha256 } from '../support/image-lab.ts';

import { layersOf } from '../support/test-registry.ts';
import { runDirectoryIs } from '../support/run-directory.ts';
import { keptTempDir } from '../support/tmp.ts';
import { WatchedUnpacker } from '../support/watched-unpacker.ts';

const work = keptTempDir();
const layout = join(work.path, 'layout');
const passwd = 'root:x:0:0::/root:\napp:x:1000:1001::/home/app:\n';
let node: Node;
let unpacker: WatchedUnpacker;
let dirs = 0;
let restoreRunDirectory = (): void => {};

beforeAll(async () => {
  runDirectoryIs(join(work.path, 'run'), (restore) => (restoreRunDirectory = restore));
  node = await openNode({ root: join(work.path, 'node'), logLevel: 'silent' });
  unpacker = new WatchedUnpacker(await openDefaultUnpacker(node), node.paths.root);
  const shell = await shellLayer(join(work.path, 'shell.tar'));
  const users = await memberLayer(join(work.path, 'users.tar'), [
    { name: 'etc/', flag: '5', mode: 0o755 },
    { name: 'etc/passwd', data: passwd },
    { name: 'etc/group', data: 'app:x:1001:\nextra:x:2000:app\n' },
    { name: 'srv/', flag: '5', mode: 0o755, uid: 1000, gid: 1001 },
    { name: 'usr/bin/.wh.chmod' },
  ]);
  const layers = layersOf([shell, users], 'gzip');
  await writeLayout(layout, 'shell', await buildImage(join(work.path, 'image'), layers));
  // Most tests look at the config only.
  await runOk('umoci', ['new', '--image', `${layout}:users`]);
  await runOk('umoci', ['raw', 'add-layer', '--image', `${layout}:users`, users]);
});
afterAll(async () => {
  await unpacker.close();
  await node.close();
  restoreRunDirectory();
  work[Symbol.dispose]();
});

/** The image with another config: flags of `umoci config` without their dashes. Returns its tag. */
async function configured(
  tag: string,
  flags: readonly (readonly [string, string])[],
  from: 'users' | 'shell' = 'users',
): Promise<string> {
  const args = flags.flatMap(([flag, value]) => [`--${flag}`, value]);
  await runOk('umoci', ['config', '--image', `${layout}:${from}`, '--tag', tag, ...args]);
  return tag;
}

function newDir(): string {
  return join(work.path, `dir-${dirs++}`);
}

function unpack(tag: string, options: Partial<UnpackImageOptions> = {}): Promise<UnpackedImage> {
  const { openOrigin, state, content } = node.imageDeps;
  const deps = { openOrigin, content, images: state.images, sources: state.layerSources, unpacker };
  return unpackImage(deps, {
    reference: `oci:${layout}:${tag}`,
    dir: newDir(),
    form: 'bundle',
    ownership: 'entries',
    signal: new AbortController().signal,
    ...options,
  });
}

interface Spec {
  readonly process: Record<'args' | 'env' | 'cwd' | 'user' | 'terminal', unknown>;
  readonly hostname: string;
  readonly mounts: readonly { destination: string; source: string; options?: readonly string[] }[];
  readonly annotations: Readonly<Record<string, string>>;
  readonly linux: { readonly namespaces: unknown; readonly uidMappings?: unknown; readonly gidMappings?: unknown };
}

function specOf(dir: string): Spec {
  return JSON.parse(readFileSync(join(dir, 'config.json'), 'utf8')) as Spec;
}

/** What two makers of bundles must agree on. */
function essence({ process, mounts, annotations, linux }: Spec): unknown {
  const { args, env, cwd, user, terminal } = process;
  const sorted = mounts
    .map((mount) => ({ ...mount, options: mount.options?.toSorted() }))
    .toSorted((a, b) => (a.destination < b.destination ? -1 : 1));
  // umoci writes those that the image says nothing of as well.
  const said = Object.fromEntries(Object.entries(annotations).filter(([, value]) => value !== ''));
  const { namespaces, uidMappings, gidMappings } = linux;
  return {
    process: { args, env, cwd, user, terminal },
    mounts: sorted,
    annotations: said,
    namespaces,
    uidMappings,
    gidMappings,
  };
}

const bundles: readonly (readonly [string, readonly (readonly [string, string])[]])[] = [
  [
    'says nothing',
    [
      ['clear', 'config.cmd'],
      ['clear', 'config.env'],
    ],
  ],
  [
    'says everything',
    [
      ['config.user', 'app'],
      ['config.env', 'A=1'],
      ['config.env', 'B=x=y'],
      ['config.env', 'PATH=/bin'],
      ['config.workingdir', '/srv'],
      ['config.entrypoint', '/bin/sh'],
      ['config.cmd', '-c'],
      ['config.cmd', 'echo hi'],
      ['config.volume', '/data'],
      ['config.volume', '/data/more'],
      ['config.exposedports', '80/tcp'],
      ['config.exposedports', '443/tcp'],
      ['config.label', 'a=b'],
      ['config.stopsignal', 'SIGINT'],
      ['author', 'me'],
    ],
  ],
  [
    'has numbers for users',
    [
      ['config.user', '77:88'],
      ['config.env', 'HOME=/x'],
    ],
  ],
  ['has a user of the image by number', [['config.user', '1000']]],
];

describe('a bundle', () => {
  it.each(bundles)('of an image that %s is what umoci makes', async (what, flags) => {
    const tag = await configured(what.replaceAll(' ', '-'), flags);
    const theirs = newDir();
    await runOk('umoci', ['unpack', '--image', `${layout}:${tag}`, theirs]);
    const { dir, config, rootfs, warnings } = await unpack(tag);
    expect(essence(specOf(dir))).toEqual(essence(specOf(theirs)));
    expect(specOf(dir).hostname).toBe('peel');
    expect({ config, rootfs, warnings }).toEqual({
      config: join(dir, 'config.json'),
      rootfs: join(dir, 'rootfs'),
      warnings: [],
    });
    expect([statSync(dir).mode & 0o777, lstatSync(join(dir, 'config.json')).mode & 0o777]).toEqual([0o700, 0o600]);
  });

  it('for an ordinary user is what umoci makes, but for the user', async () => {
    const tag = await configured('rootless', [
      ['config.user', 'app'],
      ['config.volume', '/data'],
    ]);
    const theirs = newDir();
    await runOk('umoci', ['unpack', '--rootless', '--image', `${layout}:${tag}`, theirs]);
    const { dir, warnings } = await unpack(tag, { ownership: 'mine' });
    const expected = specOf(theirs);
    const user = { uid: 0, gid: 0 };
    expect(essence(specOf(dir))).toEqual(essence({ ...expected, process: { ...expected.process, user } }));
    expect(warnings).toEqual([expect.stringContaining('user 1000 and group 1001')]);
    expect(unpacker.images.at(-1)).toMatchObject({ ownership: 'mine', dir: join(dir, 'rootfs') });
  });

  it('is not led astray by what no runtime takes', async () => {
    const config = {
      Env: ['NOTHING', '=x', 'A=1', 'A=2'],
      Volumes: { data: {}, '/': {}, '/a/../../b': {} },
      WorkingDir: 'srv/x/..',
      Labels: { 'org.opencontainers.image.os': 'labelled' },
    };
    const { dir } = await unpack(withConfig('odd', { config }));
    const { process, mounts, annotations } = specOf(dir);
    expect(annotations['org.opencontainers.image.os']).toBe('labelled');
    expect(process).toMatchObject({ cwd: '/srv', env: expect.arrayContaining(['NOTHING=', 'A=2']) });
    expect(process.env).not.toContain('=x');
    expect(mounts.map(({ destination }) => destination).slice(-3)).toEqual(['/sys/fs/cgroup', '/b', '/data']);
  });

  it.each([
    ['ERR_IMAGE_UNSUPPORTED', 'windows', { os: 'windows' }],
    ['ERR_IMAGE_CONTENT', 'Env', { config: { Env: 'A=1' } }],
    ['ERR_IMAGE_CONTENT', 'Labels', { config: { Labels: { a: 1 } } }],
  ] as const)('is refused with %s before anything is downloaded: %s', async (code, message, config) => {
    const dir = newDir();
    const asked = unpacker.images.length;
    const tag = withConfig(`refused-${dirs}`, config);
    await expect(unpack(tag, { dir })).rejects.toMatchObject({ code, message: expect.stringContaining(message) });
    expect(unpacker.images).toHaveLength(asked);
    expect(readdirSync(work.path)).not.toContain(dir.split('/').at(-1));
  });

  it.each(['missing', 'empty'])('leaves nothing when its user is not known: %s', async (before) => {
    const dir = newDir();
    if (before === 'empty') mkdirSync(dir);
    const tag = await configured('stranger', [['config.user', 'stranger']]);
    await expect(unpack(tag, { dir })).rejects.toMatchObject({ code: 'ERR_IMAGE_CONTENT' });
    if (before === 'empty') expect(readdirSync(dir)).toEqual([]);
    else expect(readdirSync(work.path)).not.toContain(dir.split('/').at(-1));
  });
});

/** The image with what is given changed in its config. Returns its tag. */
function withConfig(tag: string, changes: Readonly<Record<string, unknown>>): string {
  const index = readJson(join(layout, 'index.json')) as {
    manifests: { digest: string; annotations?: Record<string, string> }[];
  };
  const users = index.manifests.find(({ annotations }) => Object.values(annotations ?? {}).includes('users'));
  const manifest = readJson(blobPath(users?.digest ?? '')) as { config: { digest: string } };
  const config = putBlob({ ...(readJson(blobPath(manifest.config.digest)) as object), ...changes });
  const changed = putBlob({ ...manifest, config: { ...manifest.config, ...config } });
  const annotations = { 'org.opencontainers.image.ref.name': tag };
  index.manifests.push({ ...users, ...changed, annotations });
  writeFileSync(join(layout, 'index.json'), JSON.stringify(index));
  return tag;
}

function blobPath(digest: string): string {
  return join(layout, 'blobs', ...digest.split(':'));
}

function readJson(path: string): unknown {
  return JSON.parse(readFileSync(path, 'utf8'));
}

function putBlob(value: unknown): { digest: string; size: number } {
  const bytes = Buffer.from(JSON.stringify(value));
  const digest = sha256(bytes);
  writeFileSync(blobPath(digest), bytes);
  return { digest, size: bytes.length };
}

describe.skipIf(process.getuid?.() !== 0)('a container of a bundle', () => {
  /** With a terminal, as the bundle asks for. */
  async function runc(dir: string, prefix: readonly string[] = []): Promise<string> {
    const root = join(dir, '.runc');
    const id = `peel-test-${process.pid}-${dirs}`;
    const line = [...prefix, 'runc', '--root', root, 'run', '--bundle', dir, id].join(' ');
    const { out, err } = await run('script', ['-qec', line, '/dev/null']);
    // The end of the input is echoed as well.
    return out.replaceAll('\r', '').replaceAll('^@', '') + err;
  }

  it('runs what the image says, as whom and where it says', async () => {
    const tag = await configured(
      'runs',
      [
        ['config.user', 'app'],
        ['config.workingdir', '/srv'],
        ['config.volume', '/data'],
        ['config.env', 'A=1'],
        ['config.entrypoint', '/bin/sh'],
        ['config.cmd', '-c'],
        [
          'config.cmd',
          'touch made; stat -c %u:%g made; cat /proc/self/status; echo $HOME $A $PWD; ls /usr/bin/chmod; stat -f -c %T /data',
        ],
      ],
      'shell',
    );
    const { dir } = await unpack(tag);
    const out = await runc(dir);
    expect(out).toMatch(/^1000:1001$/m);
    expect(out).toMatch(/^Groups:\s*2000\s*$/m);
    expect(out).toMatch(/^NoNewPrivs:\s*1$/m);
    expect(out).toMatch(/^CapEff:\s*0+$/m);
    expect(out).toMatch(/^\/home\/app 1 \/srv$/m);
    expect(out).toMatch(/chmod.*No such file/);
    expect(out).toMatch(/^tmpfs$/m);
  });

  it('runs without root when it was unpacked without', async () => {
    const tag = await configured(
      'runs-rootless',
      [
        ['config.user', 'app'],
        ['config.cmd', 'sh'],
        ['config.cmd', '-c'],
        ['config.cmd', 'cat /proc/self/uid_map; touch /made; stat -c %u /made; echo $HOME'],
      ],
      'shell',
    );
    const { dir } = await unpack(tag, { ownership: 'mine' });
    const [uid, gid] = [4242, 4243];
    // The test unpacks as root; an ordinary user's own bundle has these numbers.
    const spec = specOf(dir) as unknown as { linux: Record<string, unknown> };
    spec.linux['uidMappings'] = [{ containerID: 0, hostID: uid, size: 1 }];
    spec.linux['gidMappings'] = [{ containerID: 0, hostID: gid, size: 1 }];
    writeFileSync(join(dir, 'config.json'), JSON.stringify(spec));
    await runOk('chown', ['-R', '-h', `${uid}:${gid}`, dir]);
    chmodSync(work.path, 0o711);
    const out = await runc(dir, ['setpriv', '--reuid', String(uid), '--regid', String(gid), '--clear-groups']);
    expect(out).toMatch(/^\s*0\s+4242\s+1$/m);
    expect(out).toMatch(/^0$/m);
    expect(out).toMatch(/^\/home\/app$/m);
    expect(lstatSync(join(dir, 'rootfs/made')).uid).toBe(uid);
  });
});

describe('the directory', () => {
  it('gets the tree, layer over layer, and progress and warnings are handed on', async () => {
    const seen: string[] = [];
    const dir = newDir();
    mkdirSync(dir);
    const unpacked = await unpack('shell', { dir, form: 'tree', onProgress: ({ what }) => seen.push(what) });
    expect(unpacked).toMatchObject({ reference: `oci:${layout}:shell`, dir, rootfs: dir, config: undefined });
    expect(readFileSync(join(dir, 'etc/passwd'), 'utf8')).toBe(passwd);
    expect(readdirSync(join(dir, 'usr/bin'))).not.toContain('chmod');
    expect(new Set(seen)).toEqual(new Set(unpacked.layers.map(({ digest }) => `layer ${digest.slice(0, 19)}`)));
    expect(unpacked.layers).toHaveLength(2);
  });

  it('is what a link leads to', async () => {
    const [dir, link] = [newDir(), newDir()];
    mkdirSync(dir);
    symlinkSync(dir, link);
    expect(await unpack('users', { dir: link, form: 'tree' })).toMatchObject({ dir });
    expect(lstatSync(link).isSymbolicLink()).toBe(true);
  });

  it.each<[string, RegExp, (dir: string) => void]>([
    ['has something in it', /not empty/, (dir) => mkdirSync(join(dir, 'x'), { recursive: true })],
    ['is a file', /not a directory/, (dir) => writeFileSync(dir, '')],
    ['is a link to nothing', /leads nowhere/, (dir) => symlinkSync('gone', dir)],
  ])('is refused when it %s, before anybody is asked', async (_, message, make) => {
    const dir = newDir();
    make(dir);
    for (const form of ['tree', 'bundle'] as const) {
      await expect(unpack('no-such-tag', { dir, form })).rejects.toMatchObject({
        code: 'ERR_UNPACK_DESTINATION',
        message: expect.stringMatching(message),
      });
    }
  });

  it('is refused when there is no way to it', async () => {
    for (const [dir, message] of [
      [join(newDir(), 'below'), /cannot be made/],
      [join(layout, 'index.json/x'), /cannot be made/],
      ['/', /not empty/],
    ] as const)
      await expect(unpack('no-such-tag', { dir, form: 'tree' })).rejects.toMatchObject({
        code: 'ERR_UNPACK_DESTINATION',
        message: expect.stringMatching(message),
      });
  });

  it('is named when nothing can be made beside it', async () => {
    await expect(unpack('users', { dir: '/proc/x', form: 'tree' })).rejects.toMatchObject({
      code: 'ERR_UNPACK_DESTINATION',
      message: expect.stringMatching(/^nothing can be made in \/proc: ENOENT/),
    });
  });

  it.skipIf(process.getuid?.() !== 0)('may be a mountpoint for a bundle only', async () => {
    const dir = newDir();
    mkdirSync(dir);
    await runOk('mount', ['-t', 'tmpfs', 'none', dir]);
    try {
      await expect(unpack('no-such-tag', { dir, form: 'tree' })).rejects.toMatchObject({
        code: 'ERR_UNPACK_DESTINATION',
        message: expect.stringContaining('mountpoint'),
      });
      expect(await unpack('users', { dir })).toMatchObject({ rootfs: join(dir, 'rootfs') });
    } finally {
      await runOk('umount', [dir]);
    }
  });

  it.skipIf(process.getuid?.() !== 0)('is named when its disk is full', async () => {
    const disk = newDir();
    mkdirSync(disk);
    await runOk('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'none', disk]);
    try {
      const dir = join(disk, 'tree');
      await expect(unpack('shell', { dir, form: 'tree' })).rejects.toMatchObject({
        code: 'ERR_UNPACK_DISK',
        message: expect.stringMatching(new RegExp(`^layer of .* in ${dir}: ENOSPC: `)),
      });
      expect(readdirSync(disk)).toEqual([]);
    } finally {
      await runOk('umount', [disk]);
    }
  });

  it('is not made for an image without layers', async () => {
    await runOk('umoci', ['new', '--image', `${layout}:nothing`]);
    const dir = newDir();
    for (const form of ['tree', 'bundle'] as const)
      await expect(unpack('nothing', { dir, form })).rejects.toMatchObject({ code: 'ERR_UNPACK_NO_LAYERS' });
    expect(() => lstatSync(dir)).toThrow(/ENOENT/);
  });

  it('is as it was when the image is not there', async () => {
    const dir = newDir();
    await expect(unpack('no-such-tag', { dir })).rejects.toMatchObject({ code: 'ERR_IMAGE_UNKNOWN' });
    await expect(unpack('users', { dir, signal: AbortSignal.abort(new Error('enough')) })).rejects.toThrow('enough');
    expect(() => lstatSync(dir)).toThrow(/ENOENT/);
  });
});

describe('a node without an unpacker', () => {
  it('says so', async () => {
    const options = { reference: `oci:${layout}:users`, dir: newDir(), form: 'tree', ownership: 'entries' } as const;
    const signal = new AbortController().signal;
    await expect(node.unpackImage({ ...options, signal })).rejects.toMatchObject({ code: 'ERR_UNPACK_DISABLED' });
  });
});
