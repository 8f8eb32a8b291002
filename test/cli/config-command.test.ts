// `peel config`, from dist/.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { sampleConfigFile } from '../../src/config/sample-config.ts';
import { readFileSync } from 'node:fs';
import { sharedPeel as peel } from '../support/shared-commands.ts';
import { tempDir } from '../support/tmp.ts';

function fileOf(text: string): string {
  const file = join(tempDir(), 'config.toml');
  writeFileSync(file, text);
  return file;
}

describe('peel config', () => {
  it('prints the sample, which is right as it is', async () => {
    const { code, out } = await peel(['config', 'default']);
    expect(code).toBe(0);
    expect(out).toBe(readFileSync(sampleConfigFile, 'utf8'));
    const file = fileOf(out);
    expect(await peel(['config', 'check', file])).toMatchObject({
      code: 0,
      out: `${file}: OK\n  every key has its default\n`,
    });
  });

  it('says what a file changes', async () => {
    const file = fileOf(
      'log.level = "debug"\nmetrics.address = "[::1]:9464"\n[snapshotter]\nwhole_layer_limit = "1GiB"\n',
    );
    const { out } = await peel(['config', 'check', file]);
    expect(out.split('\n')).toEqual([
      `${file}: OK`,
      '  log.level = "debug" (default: "info")',
      '  metrics.address = "[::1]:9464" (default: not set)',
      '  snapshotter.whole_layer_limit = "1GiB" (default: "64MiB")',
      '',
    ]);
    expect(JSON.parse((await peel(['config', 'check', file, '--json'])).out)).toEqual({
      file,
      changed: [
        { key: 'log.level', value: '"debug"', default: '"info"' },
        { key: 'metrics.address', value: '"[::1]:9464"' },
        { key: 'snapshotter.whole_layer_limit', value: '"1GiB"', default: '"64MiB"' },
      ],
    });
  });

  it('says all that is wrong in a file, and ends with 2', async () => {
    const file = fileOf('log.level = 1\n[snapshotter]\nmod = "lazy"\n');
    const { code, out, err } = await peel(['config', 'check', file]);
    expect([code, out]).toEqual([2, '']);
    expect(err).toMatch(
      /^peel: .*config\.toml:1: log\.level: expected .*\n.*config\.toml:3: snapshotter\.mod: .*mode\?\n$/,
    );
    const json = JSON.parse((await peel(['config', 'check', file, '--json'])).err) as unknown;
    expect(json).toMatchObject({ error: { code: 'ERR_CONFIG_FILE' } });
    for (const args of [
      ['check', '/nowhere/c.toml'],
      ['show', '--config', '/nowhere/c.toml'],
    ])
      expect(await peel(['config', ...args])).toMatchObject({ code: 2, err: 'peel: /nowhere/c.toml: no such file\n' });
  });

  it('shows what is in effect, as a file or as the daemon takes it', async () => {
    const file = fileOf('run_dir = "/f"\nread.deadline = "2m"\n');
    const args = ['config', 'show', '--config', file, '--root', '/o'];
    const env = { PEEL_LOG_LEVEL: 'warn', PEEL_ROOT: '/v' };
    const { code, out } = await peel(args, { env });
    expect(code).toBe(0);
    for (const line of ['root = "/o"', 'level = "warn"', 'deadline = "2m"', '# socket = "/f/control.sock"'])
      expect(out.split('\n')).toContain(line);
    expect(await peel(['config', 'check', fileOf(out)])).toMatchObject({ code: 0 });
    const json = JSON.parse((await peel([...args, '--json', '--log-level', 'debug'], { env })).out) as unknown;
    expect(json).toMatchObject({ root: '/o', run_dir: '/f', log: { level: 'debug' }, read: { deadline: 120_000 } });
  });
});
