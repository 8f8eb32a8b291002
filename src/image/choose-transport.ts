import { errorMessage } from '../layer/errors.ts';
import { ImageError } from './errors.ts';
import type { MountRequest, Served, Transport, TransportChoice } from './transports/transport.ts';

export interface ChosenTransport {
  readonly transport: Transport;
  readonly served: Served;
  /** One sentence: why this one. */
  readonly why: string;
}

/**
 * Mounts with the transport asked for, or with the first of `transports` that works here.
 * Errors: ERR_MOUNT_TRANSPORT with every reason.
 */
export async function mountWithTransport(
  transports: readonly Transport[],
  choice: TransportChoice,
  request: MountRequest,
): Promise<ChosenTransport> {
  const candidates = choice === 'auto' ? transports : transports.filter(({ name }) => name === choice);
  const refusals = new Map<string, string[]>();
  const failures: string[] = [];
  const reasons = () => [...refusals].map(([why, names]) => `${names.join(', ')} cannot: ${why}`).concat(failures);
  for (const transport of candidates) {
    request.signal?.throwIfAborted();
    const refusal = await transport.refusal(request.image);
    if (refusal !== undefined) {
      refusals.set(refusal, [...(refusals.get(refusal) ?? []), transport.name]);
      continue;
    }
    try {
      const served = await transport.mount(request);
      const why =
        choice === 'auto'
          ? reasons().concat(`${transport.name} is the fastest that works here`).join('; ')
          : `${transport.name} was asked for`;
      return { transport, served, why };
    } catch (error) {
      request.signal?.throwIfAborted();
      if (error instanceof ImageError && error.code !== 'ERR_MOUNT_TRANSPORT') throw error;
      request.log.warn({ transport: transport.name, error: errorMessage(error) }, 'transport failed');
      failures.push(`${transport.name} failed: ${errorMessage(error)}`);
    }
  }
  const hint = choice === 'auto' ? 'see peel doctor' : `--transport auto takes another one`;
  throw new ImageError('ERR_MOUNT_TRANSPORT', `cannot mount on ${request.dir}: ${reasons().join('; ')} (${hint})`);
}
