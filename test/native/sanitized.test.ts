// The tests that reach into the addon once more, over an addon built with the address and undefined-behaviour sanitizers. They
// run in a copy of the tree, where the loader finds the sanitized addon in the usual place. Short runs leave it to the native tests, which are under the
// sanitizers always: here most of the time goes into compiling bindings.
import { cp, mkdir, rm, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, it } from 'vitest';
import { isFullScale } from '../support/fixtures.ts';
import { run, runOk } from '../support/run.ts';

const root = new URL('../..', import.meta.url).pathname;
const copy = path.join(root, 'build', 'asan');

async function makeCopy(): Promise<void> {
  const built = await runOk('make', ['-s', '-j2', 'addon'], { cwd: path.join(root, 'native'), timeout: 600_000 });
  const addon = path.join(root, 'native', built.trim());
  await rm(copy, { recursive: true, force: true });
  await mkdir(copy, { recursive: true });
  await symlink(path.join(root, 'node_modules'), path.join(copy, 'node_modules'));
  await mkdir(path.join(copy, 'native', 'build', 'Release'), { recursive: true });
  await cp(addon, path.join(copy, 'native', 'build', 'Release', 'peel.node'));
  for (const part of ['src', 'test', 'dist', 'tsconfig.json']) {
    await cp(path.join(root, part), path.join(copy, part), { recursive: true });
  }
}

const files = [
  'test/native/layer-cache.test.ts',
  'test/native/stream-indexer.test.ts',
  'test/fuzz/span-decode.test.ts',
  'test/fuzz/damaged-bytes.test.ts',
  'test/index/builder.test.ts',
  'test/fuzz/peel-index.test.ts',
  'test/native/fuse-blobs.test.ts',
  'test/native/fuse-tree.test.ts',
  'test/native/mounts.test.ts',
  'test/native/tree-writer.test.ts',
  'test/native/tree-writer-hostile.test.ts',
];

/** Not the tests that race a busy loop: instrumented code takes longer than they allow. */
const patient = '^(?!.*while JavaScript is busy)';

/** Only the processes that run tests have the sanitizers: in the one that compiles them there is nothing to find, and it would take three times as long. */
const config = (env: Readonly<Record<string, string>>): string => `import { mergeConfig } from 'vitest/config';
import config from './vitest.config.ts';
export default mergeConfig(config, { test: { env: ${JSON.stringify(env)} } });
`;

it.skipIf(!isFullScale())(
  'finds nothing under the sanitizers',
  async () => {
    await makeCopy();
    const libasan = (await runOk('g++', ['-print-file-name=libasan.so'])).trim();
    const file = path.join(copy, 'test', 'sanitized.config.ts');
    const env = {
      LD_PRELOAD: libasan,
      // What JavaScript still holds at exit is no leak.
      ASAN_OPTIONS: 'detect_leaks=0',
      UBSAN_OPTIONS: 'print_stacktrace=1',
    };
    await writeFile(file, config(env));
    const vitest = path.join(root, 'node_modules', 'vitest', 'vitest.mjs');
    const args = [vitest, 'run', '--config', file, '--maxWorkers', '2', ...files, '-t', patient];
    const result = await run(process.execPath, args, { cwd: copy, timeout: 1_800_000, env: { NO_COLOR: '1' } });
    expect(result.code === 0 ? '' : `${result.out}${result.err}`).toBe('');
    expect(result.out).toMatch(new RegExp(`Test Files +${files.length} passed`));
  },
  2_400_000,
);
