import { statSync } from 'node:fs';
import { programs } from './support/fixture.ts';
import { seconds, shell } from './support/machine.ts';
import { Peel } from './support/peel.ts';
import { inTurn, type Figure, type Question, type Ratio } from './support/result.ts';
import { usageOf } from './support/usage.ts';

export const indexBuild: Question = {
  name: 'index-build',
  asks: 'how fast is building an index against decompressing and hashing the same layer, and how much memory does a 1 GB layer take?',
  async run() {
    const input = await programs(300);
    const peel = new Peel('index-build');
    const bytes = Number(await shell(`gzip -dc ${input.layer} | wc -c`));
    const time = await inTurn(
      5,
      async () => {
        peel.forget();
        return seconds(() => peel.cli('index', 'create', input.image));
      },
      () => seconds(() => shell(`gzip -dc ${input.layer} | sha256sum`)),
    );
    const rate: Ratio = {
      what: `index create, ${Math.round(statSync(input.layer).size / 1e6)} MB layer`,
      unit: 'MB/s of layer stream',
      ours: bytes / 1e6 / time.ours,
      baseline: bytes / 1e6 / time.baseline,
      against: 'gzip -dc | sha256sum',
      aim: '>= 1x',
    };
    const large = await programs(1000);
    peel.forget();
    const memory: Figure = {
      what: 'peak memory, 1 GB layer stream',
      unit: 'MB',
      ours: (await usageOf(peel, 'index', 'create', large.image)).memory / 1e6,
      aim: '< 150 MB',
    };
    return [rate, memory];
  },
};
