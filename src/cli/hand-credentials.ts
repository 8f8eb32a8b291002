// The daemon fetches what `peel pull` does not, so it needs the same user: over its control socket, which only root may use.
import type { Credentials } from '../registry/auth/credentials.ts';
import type { CliContext } from './context.ts';
import { placeOf } from './find-daemon.ts';

const timeoutMs = 5_000;

/** Warns when there is no daemon, or it does not take them: then layers of a private image are unpacked instead of mounted. */
export async function handCredentials(
  context: CliContext,
  image: string,
  credentials: Credentials | undefined,
): Promise<void> {
  if (credentials === undefined) return;
  const { control } = await placeOf(context);
  const failure = await hand(control, image, credentials, context.signal);
  context.signal.throwIfAborted();
  if (failure !== undefined) sayUserRefused(context, control, image, failure);
}

export function sayUserRefused({ warn }: CliContext, control: string, image: string, why: string): void {
  warn(`the daemon at ${control} did not get the user for ${image} (${why}): peel may not mount it lazily`);
}

/** What went wrong. */
async function hand(
  socket: string,
  image: string,
  credentials: Credentials,
  outer: AbortSignal,
): Promise<string | undefined> {
  const { ControlClient, ControlError } = await import('../daemon/control-client.ts');
  const signal = AbortSignal.any([outer, AbortSignal.timeout(timeoutMs)]);
  try {
    const daemon = await ControlClient.connect(socket, { signal });
    if (daemon === undefined) return 'it is not running';
    await daemon.remember({ image, credentials }, { signal });
    return undefined;
  } catch (error) {
    return error instanceof ControlError ? `it answered ${error.code}` : 'no answer';
  }
}
