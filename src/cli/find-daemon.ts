// The daemon of this machine, for the commands that leave their work to it where there is one.
import { existsSync } from 'node:fs';
import { realpath } from 'node:fs/promises';
import path from 'node:path';
import { readEnvironment } from '../config/environment.ts';
import { defaultRoot, usualRunDir } from '../config/paths.ts';
import type { ControlClient } from '../daemon/control-client.ts';
import type { CliContext } from './context.ts';
import { CommandError } from './errors.ts';

/** Undefined when none runs, when it has another state directory, and, with a warning, when it does not answer. */
export async function findDaemon(context: CliContext): Promise<ControlClient | undefined> {
  try {
    return await connect(context, { root: 'same' });
  } catch (error) {
    context.signal.throwIfAborted();
    context.warn(`${error instanceof Error ? error.message : String(error)}: going on without it`);
    return undefined;
  }
}

/** For commands about the daemon itself: unless a state directory is named, it may have any. Errors: CommandError when it does not answer. */
export async function requireDaemon(context: CliContext): Promise<ControlClient> {
  const { peelRoot } = readEnvironment();
  const isNamed = context.options.root !== undefined || peelRoot !== undefined;
  const client = await connect(context, { root: isNamed ? 'same' : 'any' });
  if (client === undefined)
    throw new CommandError(
      `no daemon runs${isNamed ? ` for ${rootOf(context)}` : ''}: start it with \`systemctl start peel\` or \`peel daemon\``,
      { code: 'ERR_DAEMON_NONE' },
    );
  return client;
}

async function connect(
  context: CliContext,
  wanted: { readonly root: 'same' | 'any' },
): Promise<ControlClient | undefined> {
  const environment = readEnvironment();
  const root = rootOf(context);
  const runDir = usualRunDir({ environment, uid: process.getuid?.() ?? 0 }) ?? path.join(root, 'run');
  const socket = path.join(runDir, 'control.sock');
  // Most machines have none, and what talks to it takes a while to load.
  if (!existsSync(socket)) return undefined;
  const { ControlClient } = await import('../daemon/control-client.ts');
  const client = await ControlClient.connect(socket, { signal: context.signal });
  if (client === undefined || wanted.root === 'any') return client;
  return (await real(client.hello.root)) === (await real(root)) ? client : undefined;
}

function rootOf(context: CliContext): string {
  const uid = process.getuid?.() ?? 0;
  return path.resolve(context.options.root ?? defaultRoot({ environment: readEnvironment(), uid }));
}

async function real(dir: string): Promise<string> {
  return await realpath(dir).catch(() => dir);
}
