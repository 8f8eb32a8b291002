import { randomBytes } from 'node:crypto';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { checkout, output, scale, seconds, shell, workDir } from './support/machine.ts';
import { pushFile } from './support/raw-client.ts';
import { withDockerRegistry } from './support/registries.ts';
import { inTurn, type Question, type Ratio } from './support/result.ts';

const rounds = 5;
const rangeSize = 4 << 20;

export const registryRanges: Question = {
  name: 'registry-ranges',
  asks: 'how many ranges of 4 MiB a second does our client read from docker-registry, against curl with the same ranges?',
  async run() {
    const count = Math.max(16, Math.round(256 * scale));
    const file = `${workDir}/ranges-blob`;
    const config = `${workDir}/ranges.curl`;
    mkdirSync(workDir, { recursive: true });
    writeFileSync(file, Buffer.concat(Array.from({ length: count }, () => randomBytes(rangeSize))));
    const digest = `sha256:${(await shell(`sha256sum ${file}`)).slice(0, 64)}`;
    // Neither in order nor in any order that helps: 17 is prime to the count.
    const ranges = Array.from({ length: count }, (_, i) => {
      const start = ((i * 17) % count) * rangeSize;
      return { start, end: start + rangeSize };
    });
    try {
      return await withDockerRegistry(async ({ host }) => {
        await pushFile(host, file, digest);
        const url = `http://${host}/v2/bench/large/blobs/${digest}`;
        const lines = ranges.map(
          ({ start, end }) => `url = "${url}"\nrange = "${start}-${end - 1}"\noutput = "/dev/null"\n`,
        );
        writeFileSync(config, lines.join('next\n'));
        const wanted = ranges.map(({ start, end }) => `${start}-${end}`);
        const rows: Ratio[] = [];
        for (const inFlight of [1, 8, 64]) {
          const client = ['bench/large', digest, String(inFlight), ...wanted];
          const rate = await inTurn(
            rounds,
            async () =>
              count /
              Number(await output(process.execPath, [`${checkout}/bench/tools/range-client.mjs`, host, ...client])),
            async () => {
              const options = [
                '--silent',
                '--show-error',
                '--fail',
                '--no-progress-meter',
                '--parallel',
                '--parallel-max',
                String(inFlight),
              ];
              return count / (await seconds(() => output('curl', [...options, '--config', config])));
            },
          );
          rows.push({
            what: `${inFlight} in flight`,
            unit: 'ranges/s',
            ...rate,
            against: 'curl --parallel',
            aim: '>= 1x',
          });
        }
        return rows;
      });
    } finally {
      rmSync(file, { force: true });
      rmSync(config, { force: true });
    }
  },
};
