// The daemon's configuration: where values come from, and what is said about wrong ones.
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readEnvironment } from '../../src/config/environment.ts';
import type { ConfigError } from '../../src/config/errors.ts';
import { checkConfigFile, loadConfig } from '../../src/config/load-config.ts';
import type { ConfigOverrides } from '../../src/config/load-config.ts';
import { configSchema } from '../../src/config/schema.ts';
import { tempDir } from '../support/tmp.ts';

const nothing: ConfigOverrides = { environment: readEnvironment({}), uid: 0, defaultFile: '/nowhere/config.toml' };

function fileOf(text: string | Uint8Array): string {
  const file = join(tempDir(), 'c.toml');
  writeFileSync(file, text);
  return file;
}

function pipe(): string {
  const file = join(tempDir(), 'pipe');
  execFileSync('mkfifo', [file]);
  return file;
}

/** The message's lines, with the file's name as `F`. */
async function complaints(text: string | Uint8Array, overrides: ConfigOverrides = {}): Promise<string[]> {
  const file = fileOf(text);
  const error = await loadConfig(file, { ...nothing, ...overrides }).then(
    () => undefined,
    (found: ConfigError) => found,
  );
  expect(error).toMatchObject({ name: 'ConfigError', code: 'ERR_CONFIG_FILE' });
  return (error?.message ?? '').replaceAll(file, 'F').split('\n');
}

describe('loadConfig', () => {
  it('is the defaults where there is no file', async () => {
    expect(await loadConfig(undefined, nothing)).toEqual(configSchema.parse({}));
  });

  it('takes the file over the defaults, variables over the file, and options over variables', async () => {
    const file = fileOf('root = "/f"\nrun_dir = "/f/run"\nlog.level = "warn"\n[read]\ndeadline = "2m"\n');
    const variables = { PEEL_ROOT: '/v', PEEL_LOG_LEVEL: 'debug', PEEL_CERTS_DIR: '/certs:/more' };
    const environment = readEnvironment(variables);
    expect(await loadConfig(file, nothing)).toMatchObject({
      root: '/f',
      run_dir: '/f/run',
      log: { level: 'warn' },
      read: { deadline: 120_000 },
      download: { per_node: 16 },
    });
    expect(await loadConfig(file, { ...nothing, environment })).toMatchObject({
      root: '/v',
      run_dir: '/f/run',
      log: { level: 'debug' },
      registry: { certs_dirs: ['/certs', '/more'] },
    });
    expect(await loadConfig(file, { ...nothing, environment, root: '/o', logLevel: 'error' })).toMatchObject({
      root: '/o',
      log: { level: 'error' },
    });
  });

  it('keeps the state of an ordinary user in its own folders, unless the file says otherwise', async () => {
    const environment = readEnvironment({ HOME: '/home/u', XDG_RUNTIME_DIR: '/run/user/7' });
    const user = { ...nothing, environment, uid: 7 };
    expect(await loadConfig(undefined, user)).toMatchObject({
      root: '/home/u/.cache/peel',
      run_dir: '/run/user/7/peel',
    });
    expect(await loadConfig(fileOf('run_dir = "/r"'), user)).toMatchObject({
      root: '/home/u/.cache/peel',
      run_dir: '/r',
    });
    const bare = { ...user, environment: readEnvironment({ HOME: '/home/u' }) };
    expect(await loadConfig(undefined, { ...bare, root: '/o' })).toMatchObject({ root: '/o', run_dir: '/o/run' });
  });

  it('cannot be changed', async () => {
    const config = await loadConfig(undefined, nothing);
    for (const part of [config, config.index.formats, config.registry.certs_dirs, config.credentials.cri])
      expect(Object.isFrozen(part)).toBe(true);
  });

  it('has the units that people write', async () => {
    const text = '[read]\ndeadline = "1500ms"\n[snapshotter]\nprepare_timeout = "168h"\nwhole_layer_limit = "0B"\n';
    const config = await loadConfig(fileOf(text), nothing);
    expect(config.read.deadline).toBe(1500);
    expect(config.snapshotter).toMatchObject({ prepare_timeout: 604_800_000, whole_layer_limit: 0 });
    for (const [written, bytes] of [
      ['64KiB', 65_536],
      ['1GiB', 1_073_741_824],
    ] as const) {
      const { unpack } = await loadConfig(fileOf(`unpack.chunk_size = "${written}"`), nothing);
      expect(unpack.chunk_size).toBe(bytes);
    }
  });
});

describe('a wrong configuration', () => {
  it.each<[string, string, string | RegExp]>([
    [
      'an unknown key',
      '[snapshotter]\nmod = "lazy"',
      'F:2: snapshotter.mod: not a known key, did you mean snapshotter.mode?',
    ],
    ['an unknown table', '\n[metric]\naddress = "x"', 'F:2: metric: not a known key, did you mean metrics?'],
    ['a key in the wrong table', 'deadline = "1s"', 'F:1: deadline: not a known key, did you mean read.deadline?'],
    ['a key like no other', 'x.y.z = 1', 'F:1: x: not a known key'],
    ['a quoted key', '"a b" = 1', 'F:1: "a b": not a known key'],
    ['the name of a prototype', '__proto__ = 1', 'F:1: __proto__: not a known key'],
    [
      'a nested one',
      '[credentials.cri]\nsokcet = "/x"',
      /^F:2: credentials\.cri\.sokcet: .* credentials\.cri\.socket\?$/,
    ],
    [
      'a wrong type',
      '\n\n[snapshotter]\nenabled = "yes"',
      'F:4: snapshotter.enabled: expected true or false, not "yes"',
    ],
    ['a table as a value', '[root]', 'F:1: root: expected an absolute path, not a table'],
    ['a value as a table', 'log = 3', 'F:1: log: expected a table, not 3'],
    ['a date', 'log.level = 2020-01-01', /^F:1: log\.level: expected "trace" or .*"silent", not a date$/],
    [
      'an unknown choice',
      'index.choice = "best"',
      'F:1: index.choice: expected "newest" or "oldest" or "registry", not "best"',
    ],
    ['a relative path', 'root = "peel"', 'F:1: root: expected an absolute path, not "peel"'],
    [
      'a number for a time',
      '[read]\ndeadline = 30',
      /^F:2: read\.deadline: expected a time .*"30s" \(ms, s, m, h\), not 30$/,
    ],
    ['an unknown unit', 'read.deadline = "3 days"', /^F:1: read\.deadline: expected a time .*, not "3 days"$/],
    ['a unit from a prototype', 'read.deadline = "3constructor"', /^F:1: read\.deadline: expected a time/],
    ['no time at all', 'read.deadline = "0s"', /^F:1: read\.deadline: expected a time from "1ms"/],
    ['a decimal size', 'snapshotter.whole_layer_limit = "64MB"', /^F:1: .*expected a size .*\(B, KiB, .*, not "64MB"$/],
    [
      'a size below the least',
      '[unpack]\nchunk_size = "0B"',
      'F:2: unpack.chunk_size: expected a size from "64KiB" to "1GiB" such as "8MiB" (B, KiB, MiB, GiB, TiB), not "0B"',
    ],
    ['a size just below it', 'unpack.chunk_size = "65535B"', /^F:1: unpack\.chunk_size: .*, not "65535B"$/],
    ['a size above the most', 'unpack.chunk_size = "1025MiB"', /^F:1: unpack\.chunk_size: .*, not "1025MiB"$/],
    [
      'a size of nothing',
      'unpack.max_layer_size = "0B"',
      /^F:1: unpack\.max_layer_size: expected a size from "1KiB" .*"0B"$/,
    ],
    [
      'no program',
      'unpack.decompressors.gzip = []',
      /^F:1: unpack\.decompressors\.gzip: expected the path of .*, not \[\]$/,
    ],
    [
      'a program without its path',
      'unpack.decompressors.gzip = ["unpigz", "-c"]',
      /^F:1: unpack\.decompressors\.gzip: expected the absolute path of a program first, not \["unpigz","-c"\]$/,
    ],
    [
      'too many',
      'download.per_node = 1025',
      'F:1: download.per_node: expected a whole number from 1 to 1024, not 1025',
    ],
    [
      'a fraction',
      'download.per_node = 1.5',
      'F:1: download.per_node: expected a whole number from 1 to 1024, not 1.5',
    ],
    [
      'infinity',
      'download.per_node = inf',
      'F:1: download.per_node: expected a whole number from 1 to 1024, not Infinity',
    ],
    [
      'a wrong item',
      '[registry]\ncerts_dirs = [\n"/a",\n"b"]',
      'F:2: registry.certs_dirs[1]: expected an absolute path, not "b"',
    ],
    ['no list', 'registry.certs_dirs = "/a"', 'F:1: registry.certs_dirs: expected a list of texts, not "/a"'],
    [
      'a long socket',
      `control.socket = "/${'s'.repeat(107)}"`,
      /^F:1: control\.socket: expected .* at most 107 bytes, not "\/s+…$/,
    ],
    ['an empty socket', 'control.socket = ""', /^F:1: control\.socket: expected an absolute path/],
    [
      'half an address',
      'metrics.address = "9100"',
      /^F:1: metrics\.address: expected .*127\.0\.0\.1:9464.*, not "9100"$/,
    ],
  ])('%s is named with its line and what was expected', async (_, text, expected) => {
    expect(await complaints(text)).toEqual([typeof expected === 'string' ? expected : expect.stringMatching(expected)]);
  });

  it.each<[string, string, string]>([
    ['half a table', 'root = "/a"\n[log\n', 'F:2:'],
    ['a key twice', '[log]\nlevel = "info"\nlevel = "info"\n', 'F:3:'],
    ['a text without an end', '\n\nroot = "/a\n', 'F:3:'],
  ])('%s is no TOML, at a line and a column', async (_, text, place) => {
    const [line, ...more] = await complaints(text);
    expect(line?.startsWith(place)).toBe(true);
    expect(line).toMatch(/^F:\d+:\d+: not valid TOML: ./);
    expect(more).toEqual([]);
  });

  it('is told with all that is wrong, a line each', async () => {
    const text = 'root = 1\n[log]\nlvl = "info"\n[download]\nper_node = 0\nper_image = 0\n';
    expect((await complaints(text)).map((line) => line.split(': ').slice(0, 2))).toEqual([
      ['F:1', 'root'],
      ['F:3', 'log.lvl'],
      ['F:5', 'download.per_node'],
      ['F:6', 'download.per_image'],
    ]);
  });

  it('is told briefly however much is wrong', async () => {
    const text = Array.from({ length: 30_000 }, (_, n) => `${'k'.repeat(20)}${n} = 1`).join('\n');
    const lines = await complaints(text);
    expect(lines.length).toBe(51);
    expect(lines.at(-1)).toBe('and 29950 more');
  });

  it('is told without a wrong line where a key is written with escapes', async () => {
    expect(await complaints('"\\u0061bc" = 1\n')).toEqual(['F: abc: not a known key']);
  });

  it('names the variable or the option that a wrong value is from', async () => {
    const environment = readEnvironment({ PEEL_LOG_LEVEL: 'loud' });
    expect(await complaints('log.level = "info"', { environment })).toEqual([
      expect.stringMatching(/^PEEL_LOG_LEVEL: log\.level: expected "trace" or .*, not "loud"$/),
    ]);
    expect(await complaints('', { environment, logLevel: 'louder' })).toEqual([
      expect.stringMatching(/^--log-level: log\.level: .*not "louder"$/),
    ]);
  });

  it.each<[string, string, string | RegExp]>([
    [
      'two sockets on one path',
      'control.socket = "/s"\nsnapshotter.socket = "/x/../s"',
      /^F:2: snapshotter\.socket: .* of control\.socket/,
    ],
    [
      'a socket like a default one',
      'control.socket = "/run/peel/snapshotter.sock"',
      /^F: snapshotter\.socket: .*control\.socket/,
    ],
    [
      'metrics on a socket in use',
      'metrics.address = "unix:/run/peel/control.sock"',
      /^F:1: metrics\.address: .*control\.socket/,
    ],
    [
      'a proxy of itself',
      '[credentials.cri]\nenabled = true\nupstream = "/run/peel/image.sock"',
      /^F:3: credentials\.cri\.upstream/,
    ],
    ['a long run directory', `run_dir = "/${'r'.repeat(100)}"`, /^F:1: run_dir: too long for control\.socket/],
    [
      'the key beside the secrets',
      '[credentials]\nkey_file = "/var/lib/peel/../peel/key"',
      /^F:2: credentials\.key_file: the key must lie on another path than the state directory, \/var\/lib\/peel/,
    ],
    ['half of kubelet', '[credentials.kubelet]\nconfig = "/c"', /^F:1: credentials\.kubelet\.bin_dir: missing/],
  ])('refuses %s', async (_, text, expected) => {
    expect((await complaints(text))[0]).toMatch(expected);
  });

  it('compares the key file with the directory that is used', async () => {
    const text = 'credentials.key_file = "/o/key"';
    expect(await loadConfig(fileOf(text), nothing)).toMatchObject({ credentials: { key_file: '/o/key' } });
    expect(await complaints(text, { root: '/o' })).toEqual([expect.stringMatching(/^F:1: credentials\.key_file/)]);
  });

  it.each<[string, () => string, RegExp]>([
    ['is missing', () => join(tempDir(), 'none.toml'), /none\.toml: no such file$/],
    ['is a directory', () => tempDir(), /: not a file$/],
    ['is a pipe that nobody writes', () => pipe(), /: not a file$/],
    ['has more than a megabyte', () => fileOf('#'.repeat((1 << 20) + 1)), /: larger than .* 1048576 bytes$/],
    ['is not UTF-8', () => fileOf(Buffer.from('# \xff', 'latin1')), /: not UTF-8$/],
  ])('is a named file that %s', async (_, make, message) => {
    await expect(loadConfig(make(), nothing)).rejects.toMatchObject({
      code: 'ERR_CONFIG_FILE',
      message: expect.stringMatching(message),
    });
  });
});

describe('every index format switched off', () => {
  const formats = 'snapshotter.mode = "lazy"\n[index.formats]\npeel = false\nsoci_v1 = false\nsoci_v2 = false\n';

  it('is an error of its own to who checks the file, and none to the daemon', async () => {
    const file = fileOf(formats);
    await expect(checkConfigFile(file)).rejects.toMatchObject({
      code: 'ERR_CONFIG_FORMATS',
      message: expect.stringMatching(/^.*c\.toml:2: index\.formats: every index format is switched off.*"defer"$/),
    });
    expect(await loadConfig(file, nothing)).toMatchObject({ index: { formats: { soci_v1: false } } });
  });

  it.each(['snapshotter.mode = "defer"', 'snapshotter.mode = "eager"', 'snapshotter.enabled = false'])(
    'is right with %s',
    async (line) => {
      await expect(checkConfigFile(fileOf(formats.replace(/^.*\n/, `${line}\n`)))).resolves.toBeDefined();
    },
  );
});
