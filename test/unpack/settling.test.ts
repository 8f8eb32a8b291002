import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { silentLog } from '../../src/observe/log.ts';
import { Settling } from '../../src/unpack/settling.ts';

function rig(busy: boolean) {
  const state = { busy, done: [] as string[] };
  const settling = new Settling(silentLog(), () => state.busy);
  const add = (name: string, time: 'now' | 'quiet') =>
    settling.add(name, time, async () => {
      state.done.push(name);
    });
  return { state, settling, add };
}

describe('what is done behind unpacked layers', () => {
  it('waits while layers are unpacked, but for what cannot wait', async () => {
    const { state, settling, add } = rig(true);
    add('later', 'quiet');
    add('soon', 'now');
    await delay(300);
    expect(state.done).toEqual(['soon']);
    // It was quiet for a moment only.
    state.busy = false;
    settling.quiet();
    state.busy = true;
    await delay(300);
    expect(state.done).toEqual(['soon']);
    state.busy = false;
    settling.quiet();
    await expect.poll(() => state.done).toEqual(['soon', 'later']);
    await settling.close();
  });

  it('is done at once when somebody waits for it, also what comes then', async () => {
    const { state, settling, add } = rig(true);
    add('a', 'quiet');
    const idle = settling.idle();
    add('b', 'quiet');
    await idle;
    expect(state.done.toSorted()).toEqual(['a', 'b']);
    await settling.close();
  });

  it('is not begun any more when it is closed, and what fails fails nobody', async () => {
    const { state, settling, add } = rig(true);
    settling.add('x', 'now', async () => {
      throw new Error('broken');
    });
    add('never', 'quiet');
    await delay(10);
    await settling.close();
    add('never', 'now');
    await settling.idle();
    expect(state.done).toEqual([]);
  });
});
