import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
import { SyncSchedule, type SyncScheduleOptions } from '../../src/layer/sync-schedule.ts';
import { silentLog } from '../../src/observe/log.ts';

function schedule(options: SyncScheduleOptions) {
  const sync = vi.fn(async () => {});
  return { sync, syncs: new SyncSchedule(sync, silentLog(), options) };
}

function land(syncs: SyncSchedule, spans: number): void {
  for (let i = 0; i < spans; i += 1) syncs.spanLanded();
}

describe('when the bitmap is made durable', () => {
  it('is not for every few spans of a layer that comes fast', async () => {
    const { sync, syncs } = schedule({ every: 4, atLeastMs: 60_000, idleMs: 60_000 });
    land(syncs, 1000);
    expect(sync).not.toHaveBeenCalled();
    await syncs.close();
    expect(sync).toHaveBeenCalledTimes(1);
  });

  it('is while spans come without a pause', async () => {
    let now = 0;
    const { sync, syncs } = schedule({ every: 4, atLeastMs: 20, idleMs: 60_000, now: () => now });
    land(syncs, 3);
    now = 20;
    await delay(1);
    expect(sync).not.toHaveBeenCalled();
    land(syncs, 1);
    await delay(1);
    expect(sync).toHaveBeenCalledTimes(1);
    now = 39;
    land(syncs, 10);
    await delay(1);
    expect(sync).toHaveBeenCalledTimes(1);
    await syncs.close();
    expect(sync).toHaveBeenCalledTimes(2);
  });

  it('is when they have ended, and once', async () => {
    const { sync, syncs } = schedule({ every: 4, atLeastMs: 60_000, idleMs: 10 });
    land(syncs, 100);
    await vi.waitFor(() => expect(sync).toHaveBeenCalledTimes(1));
    await delay(30);
    await syncs.close();
    expect(sync).toHaveBeenCalledTimes(1);
  });
});
