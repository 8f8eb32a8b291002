import { readdirSync } from 'node:fs';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { programs } from './support/fixture.ts';
import { cli, dropCaches, probe, seconds, shell, workDir } from './support/machine.ts';
import { Peel } from './support/peel.ts';
import { inTurn, type Question, type Ratio } from './support/result.ts';

/** A registry of peel's own on loopback, holding `layout` as demo:latest with its index pushed. */
async function withRegistry<T>(layout: string, use: (image: string) => Promise<T>): Promise<T> {
  const store = `${workDir}/registry`;
  const child = spawn(process.execPath, [cli, 'registry', 'serve', '--root', store, '--listen', '127.0.0.1:5055'], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  try {
    await shell(
      'for i in $(seq 100); do curl -sf http://127.0.0.1:5055/v2/ >/dev/null && exit 0; sleep 0.1; done; exit 1',
    );
    await shell(
      `skopeo copy --quiet --dest-tls-verify=false oci:${layout}:latest docker://127.0.0.1:5055/bench/cold:latest`,
    );
    return await use('127.0.0.1:5055/bench/cold:latest');
  } finally {
    child.kill();
    await once(child, 'exit');
  }
}

export const coldFile: Question = {
  name: 'cold-file',
  asks: 'from nothing on the node, how long until the first byte of a file, against downloading and unpacking the image first?',
  async run() {
    const input = await programs(300);
    const rows: Ratio[] = [];
    await withRegistry(input.layout, async (image) => {
      await new Peel('cold-index').cli('index', 'create', '--push', image);
      const files = readdirSync(input.unpacked, { recursive: true, encoding: 'utf8', withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => `${entry.parentPath}/${entry.name}`.slice(input.unpacked.length));
      const file = files[files.length >> 1] ?? '';
      for (const transport of ['kernel', 'native']) {
        const peel = new Peel('cold-file');
        const inside: number[] = [];
        const time = await inTurn(
          3,
          async () => {
            peel.forget();
            dropCaches();
            const start = performance.now();
            return peel.mounted(image, transport, async (dir) => {
              inside.push((await probe('first', `${dir}${file}`))['seconds'] ?? 0);
              return performance.now() - start;
            });
          },
          async () => {
            dropCaches();
            const target = `${workDir}/pulled`;
            const pull = await seconds(() =>
              shell(`rm -rf ${target}; mkdir -p ${target}; skopeo copy --quiet --src-tls-verify=false docker://${image} oci:${target}/image:latest
                umoci unpack --image ${target}/image:latest ${target}/bundle >/dev/null 2>&1
                head -c 1 ${target}/bundle/rootfs${file} >/dev/null`),
            );
            await shell(`rm -rf ${target}`);
            return pull * 1000;
          },
        );
        rows.push({
          what: `mount to first byte, ${transport}`,
          unit: 'ms',
          ...time,
          against: 'skopeo copy + umoci unpack',
          aim: '< 1x',
        });
      }
    });
    return rows;
  },
};
