// What `npm pack` makes: enough to build the addon and to run, and nothing else.
import { readdirSync, symlinkSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { expect, it } from 'vitest';
import { run, runOk } from '../support/run.ts';
import { tempDir } from '../support/tmp.ts';

const project = new URL('../..', import.meta.url).pathname;

it('packs what is needed to install, and the installed command runs', async () => {
  const dir = tempDir();
  const packed = await runOk('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', dir], {
    cwd: project,
  });
  const [{ filename, files }] = JSON.parse(packed) as [{ filename: string; files: { path: string; mode: number }[] }];
  const names = files.map((file) => file.path);
  for (const needed of [
    'package.json',
    'LICENSE',
    'README.md',
    'dist/cli/main.js',
    'dist/registry/registry.js',
    'native/binding.gyp',
  ]) {
    expect(names).toContain(needed);
  }
  const sources = readdirSync(path.join(project, 'native/src'), { recursive: true, encoding: 'utf8' });
  for (const source of sources.filter((name) => /\.[ch]pp$/.test(name)))
    expect(names).toContain(`native/src/${source}`);
  expect(names.filter((name) => /^(src|test|node_modules|native\/build)\//.test(name))).toEqual([]);

  // Installing for real compiles for minutes; the addon and the dependencies are the ones of this clone.
  await runOk('tar', ['-xf', path.join(dir, filename), '-C', dir]);
  const installed = path.join(dir, 'package');
  symlinkSync(path.join(project, 'node_modules'), path.join(installed, 'node_modules'));
  await mkdir(path.join(installed, 'native/build'), { recursive: true });
  symlinkSync(path.join(project, 'native/build/Release'), path.join(installed, 'native/build/Release'));
  const main = path.join(installed, 'dist/cli/main.js');
  expect(await run(process.execPath, [main, '--version'])).toMatchObject({ code: 0 });
  const doctor = await run(process.execPath, [main, '--root', path.join(dir, 'root'), 'doctor', '--json']);
  expect(JSON.parse(doctor.out)).toContainEqual(expect.objectContaining({ what: 'native addon', state: 'ok' }));
});

it('exports the registry interface as peel/registry', async () => {
  const script = "const r = await import('peel/registry'); console.log(typeof r)";
  expect(await runOk(process.execPath, ['--input-type=module', '-e', script], { cwd: project })).toBe('object\n');
});
