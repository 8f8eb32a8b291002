import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { daemonPlace } from '../../src/config/daemon-place.ts';
import { readEnvironment } from '../../src/config/environment.ts';

it.each([
  ['nothing', '', {}, undefined, '/run/peel/control.sock', '/var/lib/peel'],
  ['directories', 'root = "/r"\nrun_dir = "/d/"', {}, undefined, '/d/control.sock', '/r'],
  ['a socket', 'control.socket = "/s/peel"', {}, undefined, '/s/peel', '/var/lib/peel'],
  ['a socket, and --root', 'root = "/r"\ncontrol.socket = "/s/peel"', {}, '/o', '/s/peel', '/o'],
  [
    'less than PEEL_RUN_DIR',
    'control.socket = "/s"',
    { PEEL_RUN_DIR: '/e' },
    undefined,
    '/e/control.sock',
    '/var/lib/peel',
  ],
  ['nonsense', 'control.socket = 3', {}, undefined, '/run/peel/control.sock', '/var/lib/peel'],
] as const)('the daemon is where its configuration says: %s', async (_, text, variables, root, control, state) => {
  const dir = mkdtempSync(join(tmpdir(), 'peel-config-'));
  onTestFinished(() => rmSync(dir, { recursive: true }));
  const configFile = join(dir, 'config.toml');
  const options = { root, environment: readEnvironment(variables), uid: 0, configFile };
  if (text !== '') writeFileSync(configFile, text);
  const keeper = /^\/\w+\/peel\/keeper.sock$|^\/[de]\/keeper.sock$/;
  expect(await daemonPlace(options)).toEqual({ control, keeper: expect.stringMatching(keeper), root: state });
});
