// The daemon of this machine, for the commands that leave their work to it where there is one.
import { existsSync } from 'node:fs';
import { realpath } from 'node:fs/promises';
import { daemonPlace } from '../config/daemon-place.ts';
import type { DaemonPlace } from '../config/daemon-place.ts';
import { readEnvironment } from '../config/environment.ts';
import type { ControlClient } from '../daemon/control-client.ts';
import type { CliContext } from './context.ts';
import { CommandError } from './errors.ts';

/** Undefined when none runs, when it has another state directory than the one named, and, with a warning, when it does not answer. */
export async function findDaemon(context: CliContext): Promise<ControlClient | undefined> {
  try {
    const client = await connect(context);
    return client === undefined || (await isWanted(context, client)) ? client : undefined;
  } catch (error) {
    context.signal.throwIfAborted();
    context.warn(`${error instanceof Error ? error.message : String(error)}: going on without it`);
    return undefined;
  }
}

/** For commands about the daemon itself. Errors: CommandError when none runs, when it has another state directory than the one named. */
export async function requireDaemon(context: CliContext): Promise<ControlClient> {
  const client = await connect(context);
  const { control, root } = await placeOf(context);
  if (client === undefined) {
    const yours = process.getuid?.() === 0 ? '' : ' of yours (that of root answers root only)';
    throw new CommandError(
      `no daemon${yours} answers on ${control}: start it with \`systemctl start peel\` or \`peel daemon\`; PEEL_RUN_DIR names another run_dir`,
      { code: 'ERR_DAEMON_NONE' },
    );
  }
  if (!(await isWanted(context, client)))
    throw new CommandError(
      `the daemon on ${client.socket} has its state in ${client.hello.root}, not in ${root}: leave --root and PEEL_ROOT out to ask it`,
      { code: 'ERR_DAEMON_NONE' },
    );
  return client;
}

async function connect(context: CliContext): Promise<ControlClient | undefined> {
  const { control: socket } = await placeOf(context);
  // Most machines have none, and what talks to it takes a while to load.
  if (!existsSync(socket)) return undefined;
  const { ControlClient } = await import('../daemon/control-client.ts');
  return await ControlClient.connect(socket, { signal: context.signal });
}

/** Its configuration may say where its state is; whoever names a state directory means that one. */
async function isWanted(context: CliContext, { hello }: ControlClient): Promise<boolean> {
  if (context.options.root === undefined && readEnvironment().peelRoot === undefined) return true;
  return (await real(hello.root)) === (await real((await placeOf(context)).root));
}

export async function placeOf({ options: { root } }: CliContext): Promise<DaemonPlace> {
  return await daemonPlace({ root, environment: readEnvironment(), uid: process.getuid?.() ?? 0 });
}

async function real(dir: string): Promise<string> {
  return await realpath(dir).catch(() => dir);
}
