// What `npm pack` makes: enough to build the addon and to run, and nothing else; installed, a command and a library with its types.
import { readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isFullScale } from '../support/fixtures.ts';
import { run, runOk } from '../support/run.ts';
import { keptTempDir } from '../support/tmp.ts';

const project = new URL('../..', import.meta.url).pathname;
const dir = keptTempDir();
const app = path.join(dir.path, 'app');
let files: readonly string[] = [];
let tarball = '';

beforeAll(async () => {
  const pack = ['pack', '--json', '--ignore-scripts', '--pack-destination', dir.path];
  const [packed] = JSON.parse(await runOk('npm', pack, { cwd: project })) as [
    { readonly filename: string; readonly files: readonly { readonly path: string }[] },
  ];
  files = packed.files.map((file) => file.path);
  tarball = packed.filename;
});
afterAll(() => dir[Symbol.dispose]());

it('holds what is needed to install', () => {
  for (const needed of [
    'package.json',
    'LICENSE',
    'README.md',
    'dist/cli/main.js',
    'dist/registry/registry.js',
    'dist/registry/registry.d.ts',
    'native/binding.gyp',
    'systemd/config.example.toml',
    'systemd/peel-keeper.service',
    'systemd/peel.service',
  ]) {
    expect(files).toContain(needed);
  }
  const sources = readdirSync(path.join(project, 'native/src'), { recursive: true, encoding: 'utf8' });
  for (const source of sources.filter((name) => /\.[ch]pp$/.test(name)))
    expect(files).toContain(`native/src/${source}`);
  expect(files.filter((name) => /^(src|test|node_modules|native\/build)\//.test(name))).toEqual([]);
});

/** npm takes longest; short runs see only what it would install. */
describe.skipIf(!isFullScale())('the package', () => {
  beforeAll(install);

  it('installs a command that runs', async () => {
    const peel = path.join(app, 'node_modules/.bin/peel');
    expect(await run(peel, ['--version'])).toMatchObject({ code: 0 });
    const doctor = await run(peel, ['--root', path.join(dir.path, 'root'), 'doctor', '--json']);
    expect(JSON.parse(doctor.out)).toContainEqual(expect.objectContaining({ what: 'native addon', state: 'ok' }));
  });

  it('is a library, peel/registry, that serves, pushes, copies and pulls', async () => {
    writeFileSync(path.join(app, 'use.ts'), use);
    const tsc = ['--strict', '--module', 'nodenext', '--target', 'es2023', '--types', 'node'];
    const types = ['--typeRoots', path.join(project, 'node_modules/@types')];
    await runOk(path.join(project, 'node_modules/.bin/tsc'), [...tsc, ...types, 'use.ts'], { cwd: app });
    expect(await runOk(process.execPath, ['use.js'], { cwd: app })).toBe('hello\n');
  });
});

/** A project with the tarball as its only dependency. */
async function install(): Promise<void> {
  await mkdir(app);
  writeFileSync(path.join(app, 'package.json'), JSON.stringify({ name: 'app', private: true, type: 'module' }));
  // Scripts would compile for minutes. npm asks its registry only for what its cache does not have.
  const install = ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline'];
  await runOk('npm', [...install, path.join(dir.path, tarball)], { cwd: app, timeout: 110_000 });
  // What those scripts make is what they made for this clone.
  await mkdir(path.join(app, 'node_modules/peel/native/build'));
  for (const [made, place] of [
    ['native/build/Release', 'peel/native/build/Release'],
    ['node_modules/better-sqlite3/build', 'better-sqlite3/build'],
    ['node_modules/zstd-napi/build', 'zstd-napi/build'],
  ] as const)
    symlinkSync(path.join(project, made), path.join(app, 'node_modules', place));
}

const use = `
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { DirRegistry, MemoryRegistry, RemoteRegistry, copyImage, digestOf, mediaTypes, serveRegistry } from 'peel/registry';
import type { Descriptor, Registry } from 'peel/registry';

const store: Registry = new DirRegistry('store');
const server = await serveRegistry(store);
const remote = new RemoteRegistry({ host: server.host });
const bytes = Buffer.from('hello');
const blob: Descriptor = { mediaType: mediaTypes.octetStream, digest: digestOf(bytes), size: bytes.length };
await remote.pushBlob('app', blob, () => Readable.from([bytes]));
const manifest = { schemaVersion: 2, mediaType: mediaTypes.imageManifest, config: blob, layers: [] };
await remote.pushManifest('app', 'v1', Buffer.from(JSON.stringify(manifest)), mediaTypes.imageManifest);
const from = { registry: remote, repository: 'app', reference: 'v1' };
const memory = new MemoryRegistry();
const report = await copyImage(from, { registry: memory, repository: 'copy', tag: 'v1' });
// @ts-expect-error A count is no text.
const wrong: string = report.blobs.copied;
console.log(await text((await memory.getBlob('copy', blob.digest)).body));
await remote.close();
await server.close();
`;
