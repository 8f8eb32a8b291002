import { describe, expect, it, onTestFinished } from 'vitest';
import { randomBytes } from 'node:crypto';
import { ImageLab, labLayer } from '../support/image-lab.ts';
import { PeelDaemon } from '../support/peel-daemon.ts';
import { canMount } from '../support/peel-node.ts';
import { tarOf } from '../support/tar-members.ts';

describe.skipIf(!canMount)('the daemon', () => {
  it('keeps the cache within the bounds of its configuration, also when that is read again', async () => {
    const daemon = new PeelDaemon();
    onTestFinished(() => daemon.close());
    const lab = await ImageLab.start();
    const node = await lab.node({ root: daemon.root });
    const layers = ['old', 'new'].map((path) => labLayer(tarOf({ path, data: randomBytes(300_000) }), 'gzip'));
    await (await node.openImage((await lab.push('1', layers)).reference)).close();
    const [old, recent] = layers.map(({ descriptor }) => descriptor.digest);
    if (old === undefined || recent === undefined) throw new Error('no layers');
    node.state.layers.touch([old], 1_000);
    const cached = async () => (await node.cacheEntries()).map(({ digest }) => digest);

    await daemon.start();
    expect(await cached()).toEqual([old, recent]);
    daemon.configure(['[cache]', 'limit = "500KiB"']);
    process.kill(daemon.pid, 'SIGHUP');
    // What was used a moment ago stays.
    await expect.poll(cached, { timeout: 10_000 }).toEqual([recent]);
    await expect.poll(() => daemon.log).toContain('made room in the cache');
  });
});
