// `peel keeper --alone` of one test: the process that keeps file descriptors while daemons come and go.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { FdKeeper } from '../../src/daemon/fd-keeper.ts';
import { peelMain } from './run.ts';

export class LoneKeeper {
  readonly child: ChildProcess;
  readonly socket: string;

  private constructor(child: ChildProcess, socket: string) {
    this.child = child;
    this.socket = socket;
  }

  /** Resolves when it listens in the run directory of a daemon with this configuration. */
  static async start(runDir: string, configFile: string, env: Readonly<Record<string, string>>): Promise<LoneKeeper> {
    const args = [peelMain, 'keeper', '--alone', '--config', configFile];
    const child = spawn(process.execPath, args, { stdio: 'ignore', env: { ...process.env, ...env } });
    const keeper = new LoneKeeper(child, path.join(runDir, 'keeper.sock'));
    for (let tries = 0; tries < 800 && child.exitCode === null; tries += 1) {
      if (existsSync(keeper.socket)) return keeper;
      await delay(25);
    }
    throw new Error('peel keeper did not start');
  }

  /** Names of what it keeps, without what follows their last hyphen. */
  async kept(): Promise<string[]> {
    const client = await FdKeeper.connect({ socket: this.socket });
    const names = [...(client?.received.keys() ?? [])].map((name) => name.replace(/-[^-]*$/, ''));
    client?.close();
    return names.sort();
  }

  /** Resolves when it is gone. */
  async end(signal: NodeJS.Signals): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const gone = once(this.child, 'exit');
    this.child.kill(signal);
    await gone;
  }

  kill(): void {
    this.child.kill('SIGKILL');
  }
}
