import path from 'node:path';
import type { ControlClient } from '../daemon/control-client.ts';
import { mountPath } from '../image/mount-target.ts';
import { errorCode } from '../layer/errors.ts';
import { formatReference, parseReference } from '../oci/reference.ts';
import type { MountWish } from './commands/mount.ts';
import type { CliContext } from './context.ts';
import { findDaemon } from './find-daemon.ts';
import { announce } from './mount-foreground.ts';

/** What a process of the person's own may be able to do: it has his credentials, and does not serve what it looks into. */
const notForTheDaemon: ReadonlySet<string | undefined> = new Set([
  'ERR_DAEMON_NESTED',
  'ERR_DAEMON_STOPPING',
  'ERR_IMAGE_DENIED',
]);

/** False when no daemon can serve it, so that a process of its own has to. Errors: what the daemon says went wrong. */
export async function mountInDaemon(context: CliContext, wish: MountWish): Promise<boolean> {
  const { user, caFile, insecure } = wish.options;
  // Said of this one mount, and the daemon has connections of its own.
  if ([user, caFile, insecure].some((given) => given !== undefined)) return false;
  const daemon = await findDaemon(context);
  if (daemon === undefined) return false;
  try {
    const { mount, warnings } = await ask(daemon, context, wish);
    context.progress.close();
    await announce(context, String(mount['dir']), String(mount['transport']), mount, warnings);
    return true;
  } catch (error) {
    context.signal.throwIfAborted();
    if (notForTheDaemon.has(errorCode(error))) return false;
    throw error;
  }
}

async function ask(daemon: ControlClient, context: CliContext, { reference, dir, options }: MountWish) {
  return await daemon.mount(
    {
      reference: absoluteReference(reference),
      dir: await mountPath(dir, ': create the directory first'),
      transport: options.transport,
      writable: options.rw === true,
      readAhead: options.readAhead,
      fill: options.fill === true,
      upper: options.upper === undefined ? undefined : path.resolve(options.upper),
      index: options.index,
      pull: options.pull,
      platform: options.platform,
    },
    { signal: context.signal, onProgress: context.progress.report },
  );
}

/** The daemon's working directory is another one. */
function absoluteReference(text: string): string {
  const parsed = parseReference(text);
  if (parsed.kind === 'layout') return formatReference({ ...parsed, dir: path.resolve(parsed.dir) });
  if (parsed.kind === 'archive') return formatReference({ ...parsed, file: path.resolve(parsed.file) });
  return text;
}
