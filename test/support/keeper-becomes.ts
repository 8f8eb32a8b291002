import { setTimeout as delay } from 'node:timers/promises';
import { keeperStatus } from '../../src/daemon/keeper-status.ts';
import type { KeeperStatus } from '../../src/daemon/keeper-status.ts';

/** Resolves with what the keeper behind `socket` says of itself, as soon as that is as `wanted`. Rejects after 30 s with what it said last. */
export async function keeperBecomes(
  socket: string,
  wanted: (status: KeeperStatus) => boolean = () => true,
): Promise<KeeperStatus> {
  let status: KeeperStatus | undefined;
  for (const end = performance.now() + 30_000; performance.now() < end; await delay(10)) {
    status = await keeperStatus({ socket });
    if (status !== undefined && wanted(status)) return status;
  }
  throw new Error(`the keeper does not become what it should: ${JSON.stringify(status) ?? 'it does not answer'}`);
}
