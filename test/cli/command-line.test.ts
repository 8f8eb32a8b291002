// The command line as a person meets it, from dist/: help, usage errors, completion. No image is opened.
import { readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { Command } from 'commander';
import { afterAll, describe, expect, it } from 'vitest';
import { fullProgram } from '../../src/cli/program.ts';
import { verbs } from '../../src/cli/verbs.ts';
import { CommandProcess } from '../support/command-process.ts';
import { peel as peelAlone, type RunResult, run, runOk } from '../support/run.ts';
import { keptTempDir, tempDir } from '../support/tmp.ts';

function leaves(command: Command, words: string[]): { words: string[]; command: Command }[] {
  if (command.commands.length === 0) return [{ words, command }];
  return command.commands.flatMap((sub) => leaves(sub, [...words, sub.name()]));
}

const place = keptTempDir();
// Apart from what the machine has: some commands look into the state directory before they know that they are wrong.
const env = { PEEL_ROOT: path.join(place.path, 'root'), PEEL_RUN_DIR: path.join(place.path, 'run') };
const shared = new CommandProcess();
afterAll(async () => {
  await shared.close();
  place[Symbol.dispose]();
});

const peel = (args: readonly string[]): Promise<RunResult> => shared.peel(args, { env });

const commands = leaves(await fullProgram(), []);

describe('peel', () => {
  it('prints its version', async () => {
    const manifest = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
      version: string;
    };
    expect(await peel(['--version'])).toMatchObject({ code: 0, out: `${manifest.version}\n`, err: '' });
  });

  it.each([
    [['--help'], 0],
    [['ls', 'UPPER'], 2],
    [['ls', 'UPPER', '--json'], 2],
  ])('answers %j as a process of its own as it does in a shared one', async (args, code) => {
    const { out, err } = await peel(args);
    expect(await peelAlone(args, { env })).toMatchObject({ code, out, err });
  });

  it('lists every command in its help', async () => {
    const { code, out } = await peel(['--help']);
    expect(code).toBe(0);
    for (const { name, summary } of verbs)
      expect(out).toMatch(new RegExp(`^  ${name}\\b.*${summary.slice(0, 12)}`, 'm'));
  });

  it('gives help as wrong usage when no command is given', async () => {
    const { code, err } = await peel([]);
    expect(code).toBe(2);
    expect(err).toContain('Usage: peel');
    expect(err).toContain('peel: no command given');
  });

  it.each(commands.map(({ words }) => [words.join(' '), words] as const))(
    '%s has one example and --json in its help',
    async (_name, words) => {
      const { code, out } = await peel([...words, '--help']);
      expect(code).toBe(0);
      expect(out.match(/^Example:\n {2}\$ .*peel /gm)).toHaveLength(1);
      expect(out).toContain('--json');
      expect(out).toContain('--root');
    },
  );

  it.each([
    [['frobnicate'], /unknown command/],
    [['ls'], /missing required argument 'image'/],
    [['ls', '--frob', 'debian'], /unknown option '--frob'.*see: peel ls --help/s],
    [['--root', 'cache', 'registry', 'gc', '--older-than', '7'], /like 90s.*see: peel registry gc --help/s],
    [['ls', 'UPPER'], /not an image reference/],
    [['ls', 'debian@sha256:12'], /not a digest/],
    [['ls', '--platform', 'a/b/c/d', 'debian'], /not a platform/],
    [['ls', '--index', 'sometimes', 'debian'], /--index sometimes: expected/],
    [['ls', '--pull', 'often', 'debian'], /Allowed choices are always, missing, never/],
    [['find', 'debian', '[a'], /\[ without \]/],
    [['cp', 'debian', '.'], /expected IMAGE:PATH/],
    [['mount', 'debian', '/mnt', '--transport', 'magic'], /Allowed choices/],
    [['mount', 'debian', '/mnt', '--upper', '/tmp'], /--upper needs --rw/],
    [['unpack', 'UPPER', 'dir'], /not an image reference/],
    [['unpack', 'debian', ''], /expected a directory/],
    [['unpack', 'debian', 'dir', '--platform', 'a/b/c/d'], /not a platform/],
    [['unpack', 'debian', 'dir', '--index', 'auto'], /unknown option '--index'/],
    [['login', 'a/b', '-u', 'x', '--password-stdin'], /not a registry host/],
    [['--log-level', 'loud', 'ls', 'debian'], /Allowed choices/],
    [['index', 'create', 'debian', '--span-size', 'big'], /size like/],
    [['index', 'create', 'debian', '--span-size', '65535'], /a span has at least 64KiB/],
    [['index', 'create', 'debian', '--peel-span-size', '4095'], /a span has at least 4KiB/],
    [['index', 'create', 'debian', '--format', 'peel', '--span-size', '1MiB'], /give --peel-span-size/],
    [['index', 'create', 'debian', '--format', 'soci', '--peel-span-size', '1MiB'], /--peel-span-size/],
    [['index', 'show', 'sha256:0123456789ab'], /not a whole digest/],
    [['index', 'create', 'debian', '--format', 'zip'], /Allowed choices are peel, soci, both/],
    [['pull', 'oci:/tmp/layout'], /containerd pulls from registries/],
    [['pull', 'debian', '--index', 'auto'], /expected a digest/],
    [['pull', 'debian', '--namespace', 'a b'], /expected letters and digits/],
    [['--root', '', 'ls', 'debian'], /expected a directory/],
  ])('answers %j with exit code 2 and a reason', async (args, reason) => {
    const { code, out, err } = await peel(args);
    expect(code).toBe(2);
    expect(out).toBe('');
    expect(err).toMatch(reason);
    expect(err).toMatch(/^peel: /m);
  });

  it('answers wrong usage in JSON under --json', async () => {
    const { code, err } = await peel(['ls', 'UPPER', '--json']);
    expect(code).toBe(2);
    expect(JSON.parse(err)).toMatchObject({ error: { code: 'ERR_USAGE', message: expect.stringContaining('UPPER') } });
  });
});

describe('completion', () => {
  it('completes commands, subcommands and options in bash', async () => {
    const dir = tempDir();
    const script = path.join(dir, 'peel.bash');
    await writeFile(
      script,
      await runOk(process.execPath, [
        new URL('../../dist/cli/main.js', import.meta.url).pathname,
        'completion',
        'bash',
      ]),
    );
    await mkdir(path.join(dir, 'folder'));
    const complete = (...words: string[]): Promise<string> =>
      runOk(
        'bash',
        [
          '-c',
          `. ${script}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _peel; printf '%s\\n' "\${COMPREPLY[@]}"`,
          'bash',
          ...words,
        ],
        { cwd: dir },
      );
    expect((await complete('peel', 'mou')).split('\n')).toEqual(['mount', 'mounts', '']);
    expect(await complete('peel', 'index', 'cr')).toBe('create\n');
    expect((await complete('peel', 'index', 'create', 'img', '--sp')).trim()).toBe('--span-size');
    expect(await complete('peel', 'mount', 'img', 'fol')).toBe('folder\n');
    expect(await complete('peel', '--json', 'doc')).toBe('doctor\n');
  });

  it.each(['zsh', 'fish'])('names every command in %s', async (shell) => {
    const { code, out } = await peel(['completion', shell]);
    expect(code).toBe(0);
    for (const { name } of verbs) expect(out).toContain(name);
    const parser = await run(shell, ['-n', '-c', out]).catch(() => undefined);
    if (parser) expect(parser.err).toBe('');
  });

  it('refuses another shell', async () => expect((await peel(['completion', 'csh'])).code).toBe(2));
});
