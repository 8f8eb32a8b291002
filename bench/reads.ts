import { oneLargeFile } from './support/fixture.ts';
import { dropCaches, probe, shell } from './support/machine.ts';
import { Peel } from './support/peel.ts';
import { inTurn, type Question, type Ratio } from './support/result.ts';

const rounds = 5;

async function sequential(dir: string): Promise<number> {
  dropCaches();
  const { bytes = 0, seconds = 1 } = await probe('seq', `${dir}/data/large`);
  return bytes / 1e6 / seconds;
}

async function random(dir: string): Promise<number> {
  dropCaches();
  const { reads = 0, seconds = 1 } = await probe('random', `${dir}/data/large`, '20000');
  return reads / seconds;
}

export const reads: Question = {
  name: 'reads',
  asks: 'with every span in the block cache and the page cache dropped, how fast are reads against the same file on ext4?',
  async run() {
    const input = await oneLargeFile();
    const peel = new Peel('reads');
    // The first mount reads everything, so that the next ones find a complete layer.
    await peel.mounted(input.image, 'native', (dir) => shell(`cat ${dir}/data/* >/dev/null`));
    const rows: Ratio[] = [];
    for (const transport of ['kernel', 'native', 'fuse-native']) {
      await peel.mounted(input.image, transport, async (dir) => {
        const aim = transport === 'kernel' ? { aim: '>= 0.9x' } : {};
        const many = transport === 'fuse-native' ? 1 : rounds;
        const seq = await inTurn(
          many,
          () => sequential(dir),
          () => sequential(input.unpacked),
        );
        rows.push({ what: `sequential, ${transport}`, unit: 'MB/s', ...seq, against: 'same file on ext4', ...aim });
        const rnd = await inTurn(
          many,
          () => random(dir),
          () => random(input.unpacked),
        );
        rows.push({
          what: `random 4 KiB, ${transport}`,
          unit: 'reads/s',
          ...rnd,
          against: 'same file on ext4',
          ...aim,
        });
      });
    }
    return rows;
  },
};
