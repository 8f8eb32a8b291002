import { setTimeout as delay } from 'node:timers/promises';
import { fuseDeviceRefusal } from '../../image/transports/fuse-device.ts';
import { FuseServer } from '../../native/fuse-server.ts';
import { fuseMount, openFuseDevice } from '../../native/mounts.ts';
import type { Finding, Machine } from './checks.ts';

const answerMs = 1000;

/** Whether the kernel reads complete layers by itself, asked of a connection that is mounted nowhere. */
export async function checkPassthrough({ uid }: Machine): Promise<Finding> {
  const what = 'passthrough';
  if (uid !== 0)
    return { what, state: 'note', found: 'is for root only', todo: 'cached reads go through the FUSE server' };
  if (fuseDeviceRefusal() !== undefined) return { what, state: 'note', found: 'cannot be tried without /dev/fuse' };
  const fd = openFuseDevice();
  const mount = await fuseMount({ fd, allowOther: false });
  const server = FuseServer.blobs({ fd, threads: 1 });
  try {
    for (let waited = 0; waited < answerMs; waited += 10) {
      if (server.stats().passthrough)
        return { what, state: 'ok', found: 'complete layers are read by the kernel itself' };
      await delay(10);
    }
  } finally {
    mount.close();
    await server.stop();
  }
  const found = 'the kernel does not offer it';
  return { what, state: 'note', found, todo: 'Linux 6.9 or newer reads complete layers faster' };
}
