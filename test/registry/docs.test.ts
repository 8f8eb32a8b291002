// The programs in docs/registry.md, as somebody runs them who has installed the package.
import { readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { expect, it } from 'vitest';
import { runOk } from '../support/run.ts';
import { tempDir } from '../support/tmp.ts';

const project = new URL('../..', import.meta.url).pathname;

it('runs, one program after the other in the same folder', async () => {
  const dir = tempDir();
  await mkdir(path.join(dir, 'node_modules'));
  symlinkSync(project, path.join(dir, 'node_modules/peel'));
  const page = readFileSync(path.join(project, 'docs/registry.md'), 'utf8');
  const outputs: string[] = [];
  for (const [, program = ''] of page.matchAll(/^```js\n(.*?)^```$/gms)) {
    writeFileSync(path.join(dir, 'program.mjs'), program);
    outputs.push(await runOk(process.execPath, ['program.mjs'], { cwd: dir }));
  }
  expect(outputs).toEqual([
    'v1\n{}\n',
    expect.stringMatching(/^(http:\/\/127\.0\.0\.1:\d+ ?){3}\n$/) as string,
    expect.stringMatching(/^pushManifest ok$.*copied: 1/ms) as string,
  ]);
});
