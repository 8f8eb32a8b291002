// A real systemd of one test: process 1 of namespaces of its own, with nothing but the units it is given; what mounts in it stays in it.
import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { onTestFinished } from 'vitest';
import { tempDir } from './tmp.ts';

const manager = '/lib/systemd/systemd';
/** Of the unified hierarchy, which some machines have beside others. */
const cgroups = existsSync('/sys/fs/cgroup/cgroup.procs') ? '/sys/fs/cgroup' : '/sys/fs/cgroup/unified';

export const canRunSystemd = process.getuid?.() === 0 && existsSync(manager) && existsSync(`${cgroups}/cgroup.procs`);

/** /run is empty, the folders of `hidden` are as well, and everything else is the machine's. Mounts are shared within, as on a machine. */
const script = `
mount --make-rprivate /
mount --make-rshared /
mount -t tmpfs tmpfs /run
mkdir /run/lock
mount -t proc proc /proc
while umount /sys/fs/cgroup 2>/dev/null || umount -R /sys/fs/cgroup 2>/dev/null; do :; done
mount -t cgroup2 cgroup2 /sys/fs/cgroup
for folder in $BOX_HIDDEN; do mkdir -p "$BOX_DIR/hidden$folder" && mount --bind "$BOX_DIR/hidden$folder" "$folder"; done
exec ${manager} --system --unit=box.target --log-target=console --show-status=no
`;

export interface SystemdOptions {
  /** Name → text, drop-ins as `x.service.d/y.conf`. All of them are started. `@DIR@` is the box's folder. */
  readonly units: Readonly<Record<string, string>>;
  /** Existing folders that are empty in it; what is written there is in `dir`, below `hidden`. */
  readonly hidden?: readonly string[] | undefined;
  /** Files in its folder, name → text. */
  readonly files?: Readonly<Record<string, string>> | undefined;
}

export class Systemd {
  /** Not within a folder that is hidden from it. */
  readonly dir: string;
  readonly #child: ChildProcess;

  private constructor(dir: string, child: ChildProcess) {
    this.dir = dir;
    this.#child = child;
  }

  /** Ends with the test. */
  static start({ units, hidden = [], files = {} }: SystemdOptions): Systemd {
    const dir = tempDir('peel-systemd-');
    const place = path.join(dir, 'units');
    for (const folder of [place, path.join(dir, 'out')]) mkdirSync(folder);
    for (const [name, text] of Object.entries(files)) writeFileSync(path.join(dir, name), text);
    const names = Object.keys(units).filter((name) => !name.includes('/'));
    for (const [name, text] of Object.entries(units)) {
      mkdirSync(path.dirname(path.join(place, name)), { recursive: true });
      writeFileSync(path.join(place, name), text.replaceAll('@DIR@', dir));
    }
    writeFileSync(path.join(place, 'box.target'), `[Unit]\nWants=${names.join(' ')}\n`);
    // What every unit needs by default, without what it would start of the machine.
    for (const name of ['sysinit.target', 'basic.target', 'shutdown.target', 'sockets.target'])
      writeFileSync(path.join(place, name), '[Unit]\nDefaultDependencies=no\n');
    const cgroup = path.join(cgroups, path.basename(dir));
    mkdirSync(cgroup);
    const log = openSync(path.join(dir, 'log'), 'w');
    const enter = `echo $$ > ${cgroup}/cgroup.procs && exec unshare -m -p -C -u -i -f --kill-child bash -e -c "$BOX"`;
    const child = spawn('bash', ['-c', enter], {
      env: {
        PATH: process.env['PATH'],
        BOX: script,
        BOX_DIR: dir,
        BOX_HIDDEN: hidden.join(' '),
        container: 'test',
        SYSTEMD_UNIT_PATH: place,
      },
      stdio: ['ignore', log, log],
    });
    closeSync(log);
    onTestFinished(() => end(child, cgroup));
    return new Systemd(dir, child);
  }

  /** The lines of a file in `dir`, without the last one, as soon as that says `end`. */
  async lines(name: string): Promise<string[]> {
    const file = path.join(this.dir, name);
    for (;;) {
      const lines = existsSync(file) ? readFileSync(file, 'utf8').trimEnd().split('\n') : [];
      if (lines.at(-1) === 'end') return lines.slice(0, -1);
      if (this.#child.exitCode !== null) throw new Error(`systemd ended: ${this.log()}`);
      await delay(20);
    }
  }

  log(): string {
    return readFileSync(path.join(this.dir, 'log'), 'utf8');
  }
}

/** Process 1 of a namespace takes all others of it along. */
async function end(child: ChildProcess, cgroup: string): Promise<void> {
  const gone = new Promise((resolve) => child.once('exit', resolve));
  if (child.exitCode === null && child.signalCode === null) {
    child.kill('SIGKILL');
    await gone;
  }
  for (let tries = 0; readFileSync(`${cgroup}/cgroup.events`, 'utf8').includes('populated 1'); tries++) {
    if (tries > 500) throw new Error(`processes stay in ${cgroup}`);
    await delay(20);
  }
  const folders = spawnSync('find', [cgroup, '-depth', '-type', 'd'], { encoding: 'utf8' }).stdout.trim().split('\n');
  for (const folder of folders) rmdirSync(folder);
}
