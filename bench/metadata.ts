import { manyFiles, systemTree } from './support/fixture.ts';
import { dropCaches, probe } from './support/machine.ts';
import { Peel } from './support/peel.ts';
import { inTurn, type Question, type Ratio } from './support/result.ts';

const rounds = 5;

async function walkRate(dir: string): Promise<number> {
  dropCaches();
  const { entries = 0, seconds = 1 } = await probe('walk', dir);
  return entries / seconds;
}

async function lookupRate(dir: string): Promise<number> {
  dropCaches();
  const { lookups = 0, seconds = 1 } = await probe('lookup', dir, '20000');
  return lookups / seconds;
}

export const metadata: Question = {
  name: 'metadata',
  asks: 'how fast are a cold walk and lookups of names that do not exist, per transport, against the same tree on ext4?',
  async run() {
    const small = await manyFiles();
    const system = await systemTree();
    const peel = new Peel('metadata');
    const rows: Ratio[] = [];
    for (const [input, name] of [
      [system, 'system tree'],
      [small, '400 directories'],
    ] as const)
      for (const transport of ['kernel', 'native', 'fuse-native']) {
        await peel.mounted(input.image, transport, async (dir) => {
          const many = transport === 'fuse-native' ? 1 : rounds;
          const walk = await inTurn(
            many,
            () => walkRate(dir),
            () => walkRate(input.unpacked),
          );
          const aim = transport === 'kernel' ? { aim: '>= 2x' } : {};
          rows.push({
            what: `cold walk of ${name}, ${transport}`,
            unit: 'entries/s',
            ...walk,
            against: 'same tree on ext4',
            ...aim,
          });
          const lookup = await inTurn(
            many,
            () => lookupRate(`${dir}/usr/share`),
            () => lookupRate(`${input.unpacked}/usr/share`),
          );
          rows.push({
            what: `negative lookups in ${name}, ${transport}`,
            unit: '/s',
            ...lookup,
            against: 'same tree on ext4',
          });
        });
      }
    return rows;
  },
};
