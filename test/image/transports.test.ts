import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { LoadedImage } from '../../src/image/loaded-image.ts';
import { KernelTransport } from '../../src/image/transports/kernel-transport.ts';
import { NativeTransport } from '../../src/image/transports/native-transport.ts';
import { silentLog } from '../../src/observe/log.ts';
import { mountPoint } from '../support/mounted.ts';
import { canMount } from '../support/peel-node.ts';
import { tempDir } from '../support/tmp.ts';

const openFiles = () => readdirSync('/proc/self/fd').length;

describe.skipIf(!canMount)('a transport that fails', () => {
  it.each([
    ['native', new NativeTransport({ uid: 0 })],
    ['kernel', new KernelTransport({ uid: 0, root: '/', runDir: '/' })],
  ])('leaves no mount and no open file: %s', async (_, transport) => {
    const dir = mountPoint();
    const garbage = join(tempDir(), 'tree.erofs');
    writeFileSync(garbage, Buffer.alloc(8192, 'x'));
    const image = { reference: 'x', openLayers: [], treeFile: async () => garbage } as unknown as LoadedImage;
    const request = { image, dir, finalDir: dir, log: silentLog(), signal: undefined };
    // The first use opens what stays: the device's own threads and the like.
    await expect(transport.mount(request)).rejects.toMatchObject({ code: 'ERR_MOUNT_TRANSPORT' });
    const before = openFiles();
    for (let i = 0; i < 5; i += 1) await expect(transport.mount(request)).rejects.toThrow(/./);
    expect(openFiles()).toBe(before);
    expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(dir);
  });
});
