import { manyLayers } from './support/fixture.ts';
import { anonymousMemory, probe, shell } from './support/machine.ts';
import { Peel } from './support/peel.ts';
import type { Figure, Question } from './support/result.ts';

export const mountMemory: Question = {
  name: 'mount-memory',
  asks: 'how much anonymous memory do all peel processes hold with 50 layers mounted, walked and read?',
  async run() {
    const input = await manyLayers(50);
    const peel = new Peel('mount-memory');
    const rows: Figure[] = [];
    for (const transport of ['kernel', 'native']) {
      peel.forget();
      await peel.mounted(input.image, transport, async (dir) => {
        await probe('walk', dir);
        await shell(`find ${dir} -type f -print0 | xargs -0 cat >/dev/null`);
        rows.push({
          what: `RssAnon, 50 layers, ${transport}`,
          unit: 'MB',
          ours: anonymousMemory() / 1e6,
          aim: '< 120 MB',
        });
      });
    }
    return rows;
  },
};
