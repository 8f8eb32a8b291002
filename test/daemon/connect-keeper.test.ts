import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { connectKeeper } from '../../src/daemon/connect-keeper.ts';
import { silentLog } from '../../src/observe/log.ts';
import { KeeperProcess } from '../support/keeper-process.ts';
import { tempDir } from '../support/tmp.ts';

const log = silentLog();

describe('connectKeeper', () => {
  it('waits for a keeper that answers late, and begins nothing without one that does not answer', async () => {
    const keeper = await KeeperProcess.start();
    const options = { socket: keeper.socket, log, timeoutMs: 100 };
    process.kill(keeper.pid, 'SIGSTOP');
    onTestFinished(() => void process.kill(keeper.pid, 'SIGCONT'));
    await expect(connectKeeper(options)).rejects.toMatchObject({
      code: 'ERR_DAEMON_START',
      message: expect.stringContaining(`the keeper on ${keeper.socket} does not answer`),
    });
    const connecting = connectKeeper(options);
    await delay(200);
    process.kill(keeper.pid, 'SIGCONT');
    const client = await connecting;
    onTestFinished(() => client?.close());
    expect(client?.received.size).toBe(0);
  });

  it('stops asking when it is told to', async () => {
    const keeper = await KeeperProcess.start();
    process.kill(keeper.pid, 'SIGSTOP');
    onTestFinished(() => void process.kill(keeper.pid, 'SIGCONT'));
    const ending = new AbortController();
    const connecting = connectKeeper({ socket: keeper.socket, log, signal: ending.signal });
    ending.abort(new Error('enough'));
    await expect(connecting).rejects.toThrow('enough');
  });

  it('knows where none is', async () => {
    expect(await connectKeeper({ socket: join(tempDir(), 'keeper.sock'), log })).toBeUndefined();
  });
});
