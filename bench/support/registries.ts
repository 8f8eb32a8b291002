// The two registries that are compared: ours and Debian's docker-registry, each a process with a store of its own on the same disk.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { cli, peakResident, shell, workDir } from './machine.ts';

export interface RunningRegistry {
  readonly name: string;
  /** `127.0.0.1:5055` */
  readonly host: string;
  /** The largest resident set so far, bytes. */
  readonly peakMemory: () => number;
}

const home = `${workDir}/registries`;

/** Runs `use` with an empty store, which is removed afterwards. */
export function withPeelRegistry<T>(use: (registry: RunningRegistry) => Promise<T>): Promise<T> {
  const root = fresh('peel');
  const args = [cli, 'registry', 'serve', '--root', root, '--listen', '127.0.0.1:5055'];
  return running('peel registry serve', '127.0.0.1:5055', root, process.execPath, args, use);
}

export function withDockerRegistry<T>(use: (registry: RunningRegistry) => Promise<T>): Promise<T> {
  const root = fresh('docker');
  const config = `${root}/config.yml`;
  const lines = [
    'version: 0.1',
    'log: { level: error, accesslog: { disabled: true } }',
    `storage: { filesystem: { rootdirectory: ${root}/data } }`,
    'http: { addr: "127.0.0.1:5056" }',
  ];
  writeFileSync(config, `${lines.join('\n')}\n`);
  return running('docker-registry', '127.0.0.1:5056', root, 'docker-registry', ['serve', config], use);
}

async function running<T>(
  name: string,
  host: string,
  root: string,
  command: string,
  args: readonly string[],
  use: (registry: RunningRegistry) => Promise<T>,
): Promise<T> {
  const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  try {
    await shell(`for i in $(seq 100); do curl -sf http://${host}/v2/ >/dev/null && exit 0; sleep 0.1; done; exit 1`);
    return await use({ name, host, peakMemory: () => peakResident(child.pid ?? 0) });
  } finally {
    child.kill();
    await once(child, 'exit');
    rmSync(root, { recursive: true, force: true });
  }
}

function fresh(name: string): string {
  const root = `${home}/${name}`;
  rmSync(root, { recursive: true, force: true });
  mkdirSync(root, { recursive: true });
  return root;
}
