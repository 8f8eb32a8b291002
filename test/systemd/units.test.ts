// The units as systemd takes them: what they must and must not say, and what a real systemd makes of them.
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { capabilityNumbers } from '../support/capability-numbers.ts';
import type { Finding } from '../../src/cli/doctor/checks.ts';
import { peelMain, run, runOk } from '../support/run.ts';
import { canRunSystemd, Systemd } from '../support/systemd.ts';
import { tempDir } from '../support/tmp.ts';
import { unitSettings } from '../support/unit-file.ts';
import { forbiddenOptions, shownByNamespace } from './forbidden-options.ts';

const folder = new URL('../../systemd/', import.meta.url).pathname;
const unitNames = readdirSync(folder).filter((name) => /\.(service|socket|target|mount|path|timer|slice)$/.test(name));
const service = readFileSync(path.join(folder, 'peel.service'), 'utf8');
const socket = readFileSync(path.join(folder, 'peel.socket'), 'utf8');
const keeper = readFileSync(path.join(folder, 'peel-keeper.service'), 'utf8');

/** The one place beside the unit that says which rights the daemon has. */
const capabilities = [
  'CAP_SYS_ADMIN', // mount(2), fsopen(2), FUSE passthrough, trusted.overlay.*
  'CAP_DAC_OVERRIDE', // what containers left in their upper directories, with any owner and mode
  'CAP_DAC_READ_SEARCH',
  'CAP_CHOWN', // the upper directory has the owner of the image's /
  'CAP_FOWNER', // and its mode
  'CAP_FSETID', // with a setgid bit
  'CAP_MKNOD', // of an overlay with an upper directory, which does it with the rights of who mounted it
  'CAP_SETFCAP',
].sort();

/** Forbidden settings of a unit, with the reason. An empty value, which undoes an earlier one, is none. */
function forbidden(text: string): string[] {
  return unitSettings(text).flatMap(({ key, value }) => {
    const reason = forbiddenOptions.get(key);
    return reason === undefined || value === '' ? [] : [`${key}=${value}: ${reason}`];
  });
}

function valuesOf(text: string, key: string): string[] {
  return unitSettings(text).flatMap((setting) => (setting.key === key ? [setting.value] : []));
}

describe('the units', () => {
  it('are a service, its socket, and its keeper', () => {
    expect(unitNames.sort()).toEqual(['peel-keeper.service', 'peel.service', 'peel.socket']);
  });

  it.each(unitNames)('%s has nothing that is forbidden, not even in a comment to be uncommented', (name) => {
    const text = readFileSync(path.join(folder, name), 'utf8');
    expect(forbidden(text)).toEqual([]);
    expect(forbidden(text.replace(/^#(?=[A-Z][A-Za-z]+=\S*$)/gm, ''))).toEqual([]);
  });

  it.each([...forbiddenOptions.keys()])('would not pass with %s=', (key) => {
    for (const planted of [`${key}=yes`, `  ${key} = /a \\\n  /b`, `${key}=\n${key}=x`])
      expect(forbidden(service.replace('[Service]\n', `[Service]\n${planted}\n`))).toHaveLength(1);
  });

  it.each<[string, string]>([
    ['Type', 'notify'],
    ['NotifyAccess', 'main'],
    ['KillMode', 'process'],
    ['Restart', 'always'],
    ['StartLimitIntervalSec', '0'],
    ['NoNewPrivileges', 'yes'],
    ['SystemCallArchitectures', 'native'],
    ['SystemCallErrorNumber', 'EPERM'],
    ['UMask', '0077'],
    ['RuntimeDirectory', 'peel'],
    ['RuntimeDirectoryMode', '0700'],
    ['RuntimeDirectoryPreserve', 'yes'],
    ['StateDirectory', 'peel'],
    ['StateDirectoryMode', '0700'],
  ])('peel.service has %s=%s', (key, value) => {
    expect(valuesOf(service, key)).toEqual([value]);
  });

  it('peel.service starts before containerd, and has the rights it needs and no more', () => {
    expect(valuesOf(service, 'Before').join(' ').split(' ')).toContain('containerd.service');
    expect(valuesOf(service, 'CapabilityBoundingSet').join(' ').split(' ').sort()).toEqual(capabilities);
    expect(valuesOf(service, 'AmbientCapabilities')).toEqual([]);
  });

  it.each<[string, string]>([
    ['Type', 'notify'],
    ['NotifyAccess', 'main'],
    ['ExecStart', '/usr/bin/peel keeper --alone'],
    ['ExecReload', '/bin/kill -USR2 $MAINPID'],
    ['Restart', 'always'],
    ['RefuseManualStop', 'yes'],
    ['StartLimitIntervalSec', '0'],
    ['OOMScoreAdjust', '-1000'],
    ['CapabilityBoundingSet', ''],
    ['RestrictAddressFamilies', 'AF_UNIX'],
    ['NoNewPrivileges', 'yes'],
    ['UMask', '0077'],
    ['RuntimeDirectory', 'peel'],
    ['RuntimeDirectoryMode', '0700'],
    ['RuntimeDirectoryPreserve', 'yes'],
  ])('peel-keeper.service has %s=%s', (key, value) => {
    expect(valuesOf(keeper, key)).toEqual([value]);
  });

  it('peel-keeper.service is there before the daemon, and is stopped by nothing that stops it', () => {
    expect(valuesOf(service, 'Wants')).toEqual(['peel-keeper.service']);
    expect(valuesOf(service, 'After').join(' ').split(' ')).toContain('peel-keeper.service');
    for (const key of [
      'Requires',
      'BindsTo',
      'PartOf',
      'Requisite',
      'Conflicts',
      'PropagatesStopTo',
      'StopWhenUnneeded',
    ])
      expect([...valuesOf(keeper, key), ...valuesOf(service, key)], key).toEqual([]);
  });

  it('peel.socket is for its owner only and is named for the daemon', () => {
    for (const [key, value] of [
      ['ListenStream', '/run/peel/snapshotter.sock'],
      ['FileDescriptorName', 'snapshotter'],
      ['SocketMode', '0600'],
      ['DirectoryMode', '0700'],
    ] as const)
      expect(valuesOf(socket, key)).toEqual([value]);
  });
});

/** Complaints of systemd-analyze about peel.service, or another unit, with an existing program in place of /usr/bin/peel. */
async function verify(text: string, keeperText: string = keeper): Promise<string> {
  const dir = tempDir();
  const units = { 'peel.service': text, 'peel.socket': socket, 'peel-keeper.service': keeperText };
  for (const [name, unit] of Object.entries(units))
    writeFileSync(path.join(dir, name), unit.replaceAll('/usr/bin/peel', '/bin/true'));
  const files = Object.keys(units).map((name) => path.join(dir, name));
  const { code, out, err } = await run('systemd-analyze', ['verify', ...files]);
  return `${code === 0 ? '' : `exit ${code}\n`}${out}${err}`;
}

describe('systemd-analyze verify', () => {
  it('has nothing to say', async () => {
    expect(await verify(service)).toBe('');
    expect(await verify(service.replace(/^#(?=LoadCredential)/gm, ''))).toBe('');
  });

  it.each([
    ['a misspelt key', service.replace('KillMode', 'KilMode')],
    ['an unknown system call', service.replace('@mount', '@mout')],
    ['a program that is not there', service.replace('/usr/bin/peel', '/nowhere/peel')],
  ])('would complain about %s', async (_, text) => {
    expect(await verify(text)).not.toBe('');
  });

  it('would complain about the keeper as well', async () => {
    expect(await verify(service, keeper.replace('RefuseManualStop', 'RefuseManualStopp'))).not.toBe('');
  });
});

/** What systemd thinks of what a unit could do to the machine: 0, nothing, to 10. */
async function exposure(name: string, text: string): Promise<number> {
  const file = path.join(tempDir(), name);
  writeFileSync(file, text.replaceAll('/usr/bin/peel', '/bin/true'));
  const out = await runOk('systemd-analyze', ['security', '--offline=true', '--no-pager', file]);
  return Number(/Overall exposure level for \S+: ([\d.]+)/.exec(out)?.[1]);
}

describe('systemd-analyze security', () => {
  it.each([
    ['peel-keeper.service', keeper, 3.8],
    ['peel.service', service, 5],
  ] as const)('finds %s as little exposed as it can be without a mount namespace', async (name, text, most) => {
    expect(await exposure(name, text)).toBeLessThanOrEqual(most);
    for (const key of ['CapabilityBoundingSet', 'SystemCallFilter'])
      expect(await exposure(name, text.replace(new RegExp(`^${key}=.*$`, 'gm'), '')), key).toBeGreaterThan(most);
  });
});

/** A service that says on stdout which mount namespace it is in. Its stdout is opened before the namespace is made. */
function probe(name: string, lines: readonly string[], command = 'true'): string {
  const own = `${command}; readlink /proc/self/ns/mnt; echo end`;
  const output = `StandardOutput=truncate:@DIR@/out/${name}`;
  return `[Service]\nType=oneshot\nExecStart=/bin/sh -c '${own}'\n${output}\n${lines.join('\n')}\n`;
}

describe.skipIf(!canRunSystemd)('a real systemd', () => {
  const doctor = `${process.execPath} ${peelMain} doctor --root /var/lib/peel --json > @DIR@/out/doctor.$NAME`;
  const facts = 'echo $LISTEN_FDNAMES; stat -c %%a /run/peel /run/peel/snapshotter.sock /var/lib/peel; umask';
  const status = 'grep -E "CapBnd|NoNewPrivs|Seccomp:" /proc/self/status; unshare -m true && echo unshared';
  /** The unit with another program, which is no daemon. */
  const changed = (name: string, command: string) =>
    `[Service]\nType=oneshot\nRestart=no\nExecStart=\nEnvironment=NAME=${name}\n${probe(name, [], command).replace(/.*\n.*\n/, '')}`;

  it('gives the daemon no mount namespace, and every forbidden option one', async () => {
    const units: Record<string, string> = { 'plain.service': probe('plain', []) };
    for (const [key, value] of shownByNamespace) units[`${key}.service`] = probe(key, [`${key}=${value}`]);
    const box = start({
      ...units,
      'peel.service': service,
      'peel.service.d/probe.conf': changed('peel', 'true'),
      'secret.service': service.replace(/^#(LoadCredential=.*:).*/m, '$1@DIR@/key'),
      'secret.service.d/probe.conf': changed('secret', 'cat $CREDENTIALS_DIRECTORY/peel-key; echo'),
    });
    const [own] = await box.lines('out/plain');
    expect(own).toMatch(/^mnt:/);
    expect(await box.lines('out/peel')).toEqual([own]);
    expect(await box.lines('out/secret')).toEqual(['a key', own]);
    for (const [key] of shownByNamespace) {
      const [other] = await box.lines(`out/${key}`);
      expect(other, key).toMatch(/^mnt:/);
      expect(other, key).not.toBe(own);
    }
  });

  it('lets the daemon do all that peel does without a sandbox, and hands it its socket', async () => {
    const box = start({
      'peel.socket': socket,
      'peel.service': service,
      'peel.service.d/probe.conf': changed('peel', `${doctor}; ${facts}; ${status}`),
      'plain.service': probe('plain', ['Environment=NAME=plain', 'After=peel.service'], doctor),
    });
    await box.lines('out/plain');
    const lines = await box.lines('out/peel');
    expect(lines.slice(0, 5)).toEqual(['snapshotter', '700', '600', '700', '0077']);
    const mask = capabilityMask(lines.find((line) => line.startsWith('CapBnd:')) ?? '');
    expect(mask).toBe(capabilities.reduce((sum, name) => sum | (1n << BigInt(capabilityNumbers[name] ?? 63)), 0n));
    expect(lines).toContain('NoNewPrivs:\t1');
    expect(lines).toContain('Seccomp:\t2');
    expect(lines).not.toContain('unshared');
    const [sandboxed, free] = ['peel', 'plain'].map((name) => {
      const found = JSON.parse(readFileSync(path.join(box.dir, `out/doctor.${name}`), 'utf8')) as Finding[];
      // How much is free on the disk is not the sandbox's doing.
      const words = found.map(({ what, state, found }) => `${what}: ${what === 'cache disk' ? state : found}`);
      return words.map((line) => line.replace(/\.probe-\w+/, '.probe'));
    });
    expect(sandboxed).toEqual(free);
    expect(sandboxed).toContain('/dev/fuse: can be opened');
  });

  function start(units: Readonly<Record<string, string>>): Systemd {
    return Systemd.start({ units, hidden: ['/var/lib'], files: { key: 'a key' } });
  }
});

function capabilityMask(line: string): bigint {
  return BigInt(`0x${line.split('\t')[1] ?? '0'}`);
}
