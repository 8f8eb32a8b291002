// Many open files in a mount, and a daemon that may not open any more itself.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { ChaosWorld } from '../support/chaos-world.ts';
import { rounds } from '../support/fixtures.ts';
import { canMount } from '../support/peel-node.ts';

const openFiles = (pid: number): number => readdirSync(`/proc/${pid}/fd`).length;
/** The soft limit, up to the hard one. */
function limitFiles(pid: number, most: number | 'hard'): void {
  const hard = execFileSync('prlimit', ['--pid', String(pid), '--nofile', '--noheadings', '--output=HARD']);
  execFileSync('prlimit', ['--pid', String(pid), `--nofile=${most === 'hard' ? Number(hard) : most}:`]);
}

const openAll = `
import os, resource, sys
directory, right, first, last = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
names = sorted(os.listdir(right))[first:last]
fds = [os.open(os.path.join(directory, name), os.O_RDONLY) for name in names]
wrong = 0
for fd, name in zip(fds, names):
    with open(os.path.join(right, name), "rb") as file:
        wrong += os.pread(fd, 1 << 20, 0) != file.read()
print(f"{len(fds)} {wrong}", flush=True)
sys.stdin.read()
`;

async function manyAreFree(world: ChaosWorld): Promise<void> {
  const files = rounds(10_000, 1_000, 0);
  const mount = await world.mount({ files, fileSize: 100, spanSize: 1 << 18 });
  await mount.check(['f0']);
  const before = openFiles(world.daemon.pid);
  // One process may be allowed less.
  const holders = Array.from({ length: 2 }, (_, i) => {
    const part = [(i * files) / 2, ((i + 1) * files) / 2].map(String);
    const args = ['-c', openAll, mount.dir, mount.expected, ...part];
    return spawn('python3', args, { stdio: ['pipe', 'pipe', 'inherit'] });
  });
  onTestFinished(() => holders.forEach((holder) => holder.kill('SIGKILL')));
  const said = await Promise.all(holders.map(async ({ stdout }) => String((await once(stdout, 'data'))[0]).trim()));
  expect(said).toEqual(holders.map(() => `${files / 2} 0`));
  expect(openFiles(world.daemon.pid) - before).toBeLessThan(20);
  for (const holder of holders) holder.stdin.end();
}

/** At full scale it takes minutes. */
const timeoutMs = 600_000;

describe.skipIf(!canMount)('open files', () => {
  it(
    'in a mount cost the daemon none; where it may have no more, reads wait and new mounts fail until it may',
    async () => {
      const world = await ChaosWorld.start();
      await manyAreFree(world);
      const mount = await world.mount();
      await mount.check(['f0']);
      const other = await world.lab.push('other', mount.image.layers, 'lab/other');
      const { pid } = world.daemon;
      await world.front.down();
      limitFiles(pid, openFiles(pid));
      await world.front.up();
      const readers = await mount.readers({ readers: 2 });
      await mount.check(['f0']);
      await delay(500);
      limitFiles(pid, openFiles(pid));
      // Whoever asks is answered, from what is kept for that.
      expect((await world.daemon.status()).mounts.length).toBe(2);
      const refused = world.daemon.mount(other.byDigest);
      await expect(refused).rejects.toMatchObject({ message: expect.stringMatching(/too many open files|EMFILE/) });
      expect(world.logged('registry is left alone')).toEqual([]);
      limitFiles(pid, 'hard');
      await mount.check();
      expect(await readers.stop()).toMatchObject({ wrong: 0, errors: {} });
      await mount.check(['f1', 'f30'], await world.daemon.mount(other.byDigest));
      expect((await world.daemon.status()).mounts.length).toBe(3);
    },
    timeoutMs,
  );
});
