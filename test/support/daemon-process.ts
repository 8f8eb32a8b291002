// A `peel daemon` of a node of its own, as a child process.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ControlClient } from '../../src/daemon/control-client.ts';
import type { MountRequest } from '../../src/daemon/control-requests.ts';
import type { StatusReport } from '../../src/daemon/status-report.ts';
import type { PeelNode } from './peel-node.ts';
import { peelMain } from './run.ts';

export interface DaemonSetting {
  /** TOML. */
  readonly config?: string | undefined;
  readonly env?: Readonly<Record<string, string>> | undefined;
  /** In front of `node dist/cli/main.js daemon`, e.g. a program that passes sockets on. */
  readonly through?: readonly string[] | undefined;
}

export class DaemonProcess {
  readonly child: ChildProcess;
  readonly node: PeelNode;
  readonly configFile: string;
  #log = '';

  private constructor(node: PeelNode, child: ChildProcess, configFile: string) {
    this.node = node;
    this.child = child;
    this.configFile = configFile;
    child.stderr?.on('data', (chunk: Buffer) => (this.#log += chunk.toString()));
  }

  /** Resolves when it serves; it is killed with its node at the latest. Rejects with what it said when it ends before. */
  static async start(
    node: PeelNode,
    { config = '', env = {}, through = [] }: DaemonSetting = {},
  ): Promise<DaemonProcess> {
    const configFile = join(node.dir, 'config.toml');
    writeFileSync(configFile, config);
    const [command, ...args] = [...through, process.execPath, peelMain, 'daemon', '--config', configFile];
    const child = spawn(command, args, {
      env: { ...process.env, ...node.env, ...env },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    const daemon = new DaemonProcess(node, child, configFile);
    await daemon.said(/"msg":"daemon serves"/);
    return daemon;
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  get log(): string {
    return this.#log;
  }

  /** Waits until the log has it. */
  async said(what: RegExp): Promise<void> {
    const ended = once(this.child, 'close').then(() => 'ended' as const);
    while (!what.test(this.#log)) {
      const next = await Promise.race([
        once(this.child.stderr as NodeJS.ReadableStream & NodeJS.EventEmitter, 'data'),
        ended,
      ]);
      if (next === 'ended' && !what.test(this.#log))
        throw new Error(`the daemon ended (${this.child.exitCode}): ${this.#log}`);
    }
  }

  get socket(): string {
    return join(this.node.dir, 'run', 'control.sock');
  }

  async client(): Promise<ControlClient> {
    const client = await ControlClient.connect(this.socket);
    if (client === undefined) throw new Error('the daemon does not answer');
    return client;
  }

  async status(): Promise<StatusReport> {
    return await (await this.client()).status();
  }

  /** On a new directory, which is returned. */
  async mount(reference: string, request: Partial<MountRequest> = {}): Promise<string> {
    const dir = await this.node.newDir();
    await (await this.client()).mount({ reference, dir, ...request }, { onProgress: () => undefined });
    return dir;
  }

  async unmount(dir: string, detach = false): Promise<void> {
    await (await this.client()).unmount({ dir, detach });
  }

  reconfigure(config: string): void {
    writeFileSync(this.configFile, config);
  }

  /** Resolves with the exit code, or the signal, when the process is gone. */
  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | NodeJS.Signals | null> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      const gone = once(this.child, 'close');
      this.child.kill(signal);
      await gone;
    }
    return this.child.exitCode ?? this.child.signalCode;
  }
}
