// Processes made of the built code: one that serves a mount, and small scripts against a node.
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { onTestFinished } from 'vitest';
import { run, stop } from './run.ts';
import { sharedProcess } from './shared-commands.ts';

const face = new URL('../../dist/daemon/node.js', import.meta.url).href;

export interface NodeProcess {
  readonly root: string;
  readonly runDir: string;
}

export interface Serving {
  readonly child: ChildProcess;
  readonly row: { readonly pid: number; readonly transport: string; readonly why: string };
  readonly warnings: readonly string[];
}

/** Runs `body`, in which `node` is an open node, to its end; returns what it passed to `say`, parsed. Rejects with its stderr. */
export async function onNode<T>({ root, runDir }: NodeProcess, body: string): Promise<T> {
  const env = { PEEL_RUN_DIR: runDir };
  const shared = sharedProcess()?.onNode({ root, body }, { env });
  const { code, out, err } = await (shared ??
    run(process.execPath, ['--input-type=module', '-e', script(root, body)], { env }));
  if (code !== 0) throw new Error(`${code}: ${err}`);
  return (out === '' ? undefined : JSON.parse(out)) as T;
}

/** Mounts in a process of its own, as `mount --foreground` does; resolves once the directory serves. Rejects with its stderr. */
export async function serve(
  { root, runDir }: NodeProcess,
  options: { reference: string; dir: string; transport: string; writable?: boolean; upper?: string },
): Promise<Serving> {
  const body = `
    const mount = await node.mount({ writable: false, upper: undefined, logPath: undefined, ...${JSON.stringify(options)} });
    say({ row: mount.row, warnings: mount.warnings });
    process.on('SIGTERM', () => void mount.unmount());
    await mount.closed;`;
  const child = start(script(root, body), runDir);
  onTestFinished(() => stop(child));
  return await new Promise<Serving>((resolve, reject) => {
    let err = '';
    child.stdout?.once('data', (chunk: Buffer) =>
      resolve({ child, ...(JSON.parse(chunk.toString()) as Omit<Serving, 'child'>) }),
    );
    child.stderr?.on('data', (chunk: Buffer) => (err += chunk.toString()));
    child.once('close', (code) => reject(new Error(`${code}: ${err}`)));
  });
}

function script(root: string, body: string): string {
  return `
    import { writeSync } from 'node:fs';
    import { openNode } from ${JSON.stringify(face)};
    const say = (value) => writeSync(1, JSON.stringify(value));
    const node = await openNode({ root: ${JSON.stringify(root)}, logLevel: 'silent' });
    try {${body}
      await node.close();
      process.exit(0);
    } catch (error) {
      writeSync(2, error.code + ': ' + error.message + '\\n' + error.stack);
      process.exit(1);
    }`;
}

function start(text: string, runDir: string): ChildProcess {
  return spawn(process.execPath, ['--input-type=module', '-e', text], {
    env: { ...process.env, PEEL_RUN_DIR: runDir },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}
