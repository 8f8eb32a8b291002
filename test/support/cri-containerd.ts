// A containerd that serves CRI's ImageService, for what a kubelet asks of it.
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { mountsBelow } from './leftovers.ts';
import { run, stop } from './run.ts';

export interface CriContainerd {
  readonly socket: string;
  /** Kills it; it can be started again. */
  stop(): Promise<void>;
  start(): Promise<void>;
  close(): Promise<void>;
}

export async function startCriContainerd(): Promise<CriContainerd> {
  const dir = mkdtempSync(path.join(tmpdir(), 'peel-cri-'));
  const config = [
    'version = 2',
    `root = "${dir}/root"`,
    `state = "${dir}/state"`,
    'disabled_plugins = ["io.containerd.internal.v1.restart", "io.containerd.internal.v1.tracing"]',
    `grpc = { address = "${dir}/socket" }`,
    `ttrpc = { address = "${dir}/ttrpc" }`,
    '[plugins."io.containerd.grpc.v1.cri".containerd]',
    'snapshotter = "native"',
  ];
  writeFileSync(path.join(dir, 'config.toml'), `${config.join('\n')}\n`);
  const socket = `${dir}/socket`;
  let child: ChildProcess | undefined;
  const start = async () => {
    const log = openSync(path.join(dir, 'log'), 'w');
    child = spawn('containerd', ['--config', path.join(dir, 'config.toml')], { stdio: ['ignore', log, log] });
    closeSync(log);
    for (let tries = 0; tries < 200 && child.exitCode === null; tries += 1) {
      if ((await run('ctr', ['--address', socket, 'version'])).code === 0) return;
      await delay(50);
    }
    throw new Error(`containerd did not start:\n${readFileSync(path.join(dir, 'log'), 'utf8')}`);
  };
  const close = async () => {
    if (child !== undefined) await stop(child);
    for (const mount of mountsBelow(dir)) await run('umount', ['-l', mount]);
    rmSync(dir, { recursive: true, force: true });
  };
  const started: CriContainerd = { socket, start, close, stop: async () => child && (await stop(child)) };
  try {
    await start();
  } catch (error) {
    await close();
    throw error;
  }
  return started;
}
