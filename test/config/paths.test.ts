import { mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readEnvironment } from '../../src/config/environment.ts';
import { defaultRoot, preparePaths } from '../../src/config/paths.ts';

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'peel-config-'));
});
afterEach(async () => {
  await rm(dir, { recursive: true });
});

const uid = process.getuid?.() ?? 0;

describe('preparePaths', () => {
  it.each([
    ['root', 0, {}, '/var/lib/peel'],
    ['an ordinary user', 1000, { HOME: '/home/u' }, '/home/u/.cache/peel'],
    ['a user with XDG_CACHE_HOME', 1000, { HOME: '/home/u', XDG_CACHE_HOME: '/c' }, '/c/peel'],
    ['PEEL_ROOT', 0, { PEEL_ROOT: '/elsewhere' }, '/elsewhere'],
    ['an empty PEEL_ROOT', 0, { PEEL_ROOT: '' }, '/var/lib/peel'],
  ])('keeps the state of %s in the documented place', (_, uid, variables, expected) => {
    expect(defaultRoot({ environment: readEnvironment(variables), uid })).toBe(expected);
  });

  it('creates both directories for their owner only', async () => {
    const environment = readEnvironment({ PEEL_ROOT: join(dir, 'never'), PEEL_RUN_DIR: join(dir, 'run') });
    const paths = await preparePaths({ root: join(dir, 'state'), environment, uid });
    expect(paths).toEqual({ root: join(dir, 'state'), runDir: join(dir, 'run') });
    for (const path of Object.values(paths)) expect((await stat(path)).mode & 0o777).toBe(0o700);
  });

  it('falls back under the state directory when the run directory cannot be used', async () => {
    await writeFile(join(dir, 'file'), '');
    const environment = readEnvironment({ PEEL_RUN_DIR: join(dir, 'file') });
    const paths = await preparePaths({ root: join(dir, 'state'), environment, uid });
    expect(paths.runDir).toBe(join(dir, 'state', 'run'));
  });

  it('names the state directory that cannot be used and what to do', async () => {
    await mkdir(join(dir, 'd'));
    await writeFile(join(dir, 'd', 'file'), '');
    const opening = preparePaths({ root: join(dir, 'd', 'file', 'x'), environment: readEnvironment({}), uid });
    await expect(opening).rejects.toMatchObject({
      code: 'ERR_CONFIG_ROOT',
      message: expect.stringMatching(/d\/file\/x.*--root/),
    });
  });

  it('does not try for ever to make a state directory where none can be made', async () => {
    const opening = preparePaths({ root: '/proc/peel/state', environment: readEnvironment({}), uid });
    await expect(opening).rejects.toMatchObject({
      code: 'ERR_CONFIG_ROOT',
      message: expect.stringMatching(/\/proc\/peel\/state.*--root/),
    });
  });
});
