import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ImageLab, labLayer, sha256 } from '../support/image-lab.ts';
import { onNode } from '../support/serving.ts';
import { tarOf } from '../support/tar-members.ts';

const count = 6;

describe('four processes on one state directory', () => {
  it('fill, read and prune it at once and never see a wrong byte', async () => {
    const lab = await ImageLab.start();
    const files = Array.from({ length: count }, () => randomBytes(400_000 + Math.floor(Math.random() * 200_000)));
    const layers = files.map((data, i) => labLayer(tarOf({ path: `f${i}`, data }), i % 3 === 2 ? 'gzip' : 'none'));
    const image = await lab.push('1', layers);
    await lab.pushIndex({ ...image, layers: image.layers.filter((_, i) => i % 3 !== 2) }, { spanSize: 64 << 10 });
    const place = { root: join(lab.dir, 'root'), runDir: join(lab.dir, 'run') };
    const sums = files.map((data) => sha256(data).slice(7));
    const reader = `
      const { createHash } = await import('node:crypto');
      const sums = ${JSON.stringify(sums)};
      let read = 0;
      const until = Date.now() + 8000;
      while (Date.now() < until || read <= 10) {
        const image = await node.openImage(${JSON.stringify(image.reference)});
        const { children } = (await image.tree()).root;
        for (let n = 0; n < 3; n++) {
          const i = Math.floor(Math.random() * sums.length);
          const hash = createHash('sha256');
          for await (const chunk of image.stream(children.get('f' + i))) hash.update(chunk);
          if (hash.digest('hex') !== sums[i]) throw new Error('wrong bytes in f' + i);
          read += 1;
        }
        await image.close();
        if (Math.random() < 0.5) await node.pruneCache(Math.floor(Math.random() * 1_000_000));
      }
      say(read);`;
    const reads = await Promise.all([1, 2, 3, 4].map(() => onNode<number>(place, reader)));
    for (const read of reads) expect(read).toBeGreaterThan(10);
  });
});
