// The daemon of this machine, for the commands that leave their work to it where there is one.
import { existsSync } from 'node:fs';
import { realpath } from 'node:fs/promises';
import { daemonPlace } from '../config/daemon-place.ts';
import type { DaemonPlace } from '../config/daemon-place.ts';
import { readEnvironment } from '../config/environment.ts';
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
      `no daemon runs${isNamed ? ` for ${(await placeOf(context)).root}` : ''}: start it with \`systemctl start peel\` or \`peel daemon\``,
      { code: 'ERR_DAEMON_NONE' },
    );
  return client;
}

async function connect(
  context: CliContext,
  wanted: { readonly root: 'same' | 'any' },
): Promise<ControlClient | undefined> {
  const { control: socket, root } = await placeOf(context);
  // Most machines have none, and what talks to it takes a while to load.
  if (!existsSync(socket)) return undefined;
  const { ControlClient } = await import('../daemon/control-client.ts');
  const client = await ControlClient.connect(socket, { signal: context.signal });
  if (client === undefined || wanted.root === 'any') return client;
  return (await real(client.hello.root)) === (await real(root)) ? client : undefined;
}

export async function placeOf({ options: { root } }: CliContext): Promise<DaemonPlace> {
  return await daemonPlace({ root, environment: readEnvironment(), uid: process.getuid?.() ?? 0 });
}

async function real(dir: string): Promise<string> {
  return await realpath(dir).catch(() => dir);
}
