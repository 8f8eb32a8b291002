// One node as a user has it: state and run directory of its own, driven through the built command line.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mountsBelow, processesUsing } from './leftovers.ts';
import { peel, type RunOptions, type RunResult } from './run.ts';
import { sharedPeel } from './shared-commands.ts';

export type Transport = 'kernel' | 'native' | 'fuse-native';

/** What the folders of this run's nodes begin with. */
export function nodePrefix(): string {
  return `peel-node-${process.env['PEEL_TEST_RUN'] ?? process.pid}-`;
}

/** Mounting needs root and the device; a machine without them skips, and `.ci/run` counts that as a failure. */
export const canMount = process.getuid?.() === 0 && existsSync('/dev/fuse');

export class PeelNode {
  /** Everything of this node is below; removed by `close`. */
  readonly dir = mkdtempSync(join(tmpdir(), nodePrefix()));
  readonly env: Readonly<Record<string, string>>;
  #mounts = 0;

  constructor(root?: string) {
    this.env = { PEEL_ROOT: root ?? join(this.dir, 'root'), PEEL_RUN_DIR: join(this.dir, 'run') };
  }

  get root(): string {
    return this.env['PEEL_ROOT'] ?? '';
  }

  /** In the process that command lines share where it makes no difference. */
  peel(args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    return sharedPeel(args, { ...options, env: { ...this.env, ...options.env } });
  }

  /** In a process of its own, to its end. */
  alone(args: readonly string[]): Promise<RunResult> {
    return peel(args, { env: this.env });
  }

  /** stdout of a command that has to succeed. */
  async ok(args: readonly string[], options?: RunOptions): Promise<string> {
    const result = await this.peel(args, options);
    if (result.code !== 0) {
      throw new Error(`peel ${args.join(' ')}: ${result.signal ?? `exit ${result.code}`}\n${result.err}${result.out}`);
    }
    return result.out;
  }

  /** stdout of a successful command with `--json`. */
  async json<T>(args: readonly string[]): Promise<T> {
    return JSON.parse(await this.ok([...args, '--json'])) as T;
  }

  async newDir(name = `mnt-${this.#mounts++}`): Promise<string> {
    const dir = join(this.dir, name);
    await mkdir(dir, { recursive: true });
    return dir;
  }

  /** Mounts on a new directory and returns it. */
  async mount(reference: string, transport: Transport | 'auto' = 'auto', ...flags: string[]): Promise<string> {
    const dir = await this.newDir();
    await this.ok(['mount', reference, dir, '--transport', transport, ...flags]);
    return dir;
  }

  async umount(dir: string): Promise<void> {
    await this.ok(['umount', dir]);
  }

  /** Unmounts with peel, then by force; kills what still runs. Never throws. */
  async close(): Promise<void> {
    for (const point of mountsBelow(this.dir)) {
      await this.peel(['umount', point], { timeout: 10_000 }).catch(() => undefined);
    }
    for (const point of mountsBelow(this.dir)) spawnSync('umount', ['-l', point]);
    for (const pid of processesUsing(this.dir)) process.kill(pid, 'SIGKILL');
    rmSync(this.dir, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  }
}
