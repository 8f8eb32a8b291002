import { closeSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { giveUpSockets, keptSocket } from '../../src/daemon/kept-sockets.ts';
import { silentLog } from '../../src/observe/log.ts';
import { KeeperProcess } from '../support/keeper-process.ts';
import { tempDir } from '../support/tmp.ts';

const log = silentLog();

/** Whether somebody listens there. */
async function isReached(path: string): Promise<boolean> {
  return await new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('close', () => socket.destroy());
    setTimeout(() => socket.destroy(), 50).unref();
  });
}

describe('sockets that outlive a daemon', () => {
  it('go on listening for the next one, and those of parts that it has not are given up', async () => {
    const keeper = await KeeperProcess.start();
    const [control, other] = ['control', 'snapshotter'].map((name) => join(tempDir(), `${name}.sock`)) as [
      string,
      string,
    ];
    const first = await keeper.client();
    for (const [name, path] of [
      ['control', control],
      ['snapshotter', other],
    ] as const) {
      const address = await keptSocket(first, { name, path, log });
      if ('fd' in address) closeSync(address.fd);
    }
    first.close();
    expect([await isReached(control), await isReached(other)]).toEqual([true, true]);
    const next = await keeper.client();
    const taken = await keptSocket(next, { name: 'control', path: control, log });
    await giveUpSockets(next, log);
    expect(next.received.size).toBe(0);
    expect([await isReached(control), await isReached(other)]).toEqual([true, false]);
    expect((await keeper.status()).fds).toBe(1);
    if ('fd' in taken) closeSync(taken.fd);
  });
});
