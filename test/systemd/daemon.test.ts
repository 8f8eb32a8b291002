// The daemon itself in its sandbox, started, reloaded, restarted and stopped by a real systemd, while eight processes read what it serves.
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { checksumReader, summed } from '../support/checksum-readers.ts';
import type { ReaderReport } from '../support/checksum-readers.ts';
import { rounds } from '../support/fixtures.ts';
import { ImageLab, labLayer, sha256 } from '../support/image-lab.ts';
import { peelMain } from '../support/run.ts';
import { canRunSystemd, Systemd } from '../support/systemd.ts';
import { tarOf } from '../support/tar-members.ts';

const folder = new URL('../../systemd/', import.meta.url).pathname;
const service = readFileSync(`${folder}peel.service`, 'utf8');
const keeper = readFileSync(`${folder}peel-keeper.service`, 'utf8');
const socket = readFileSync(`${folder}peel.socket`, 'utf8');
const peel = `${process.execPath} ${peelMain}`;

/** Stops and starts of the daemon's unit. */
const stops = rounds(100, 1, 0.01);
const readers = [1, 2, 3, 4, 5, 6, 7, 8];
const image = '/run/image';
const quiet = '[fill]\nenabled = false\n[read_ahead]\nenabled = false\n';

/** What the person at the shell does, as a service beside. $1: the box's folder. $2: a reference. */
const steps = `
mkdir ${image} && ${peel} --root /var/lib/peel mount $2 ${image} >/dev/null
mkfifo $1/end
for i in ${readers.join(' ')}; do cat $1/readers $1/end | python3 ${checksumReader} >$1/out/reader.$i & done
say() { systemctl show peel.service --property=ActiveState --property=NRestarts --property=StatusText --value | tr '\\n' ' '; echo; }
pid() { systemctl show peel.service --property=MainPID --value; }
say
first=$(pid)
readlink /proc/$first/ns/mnt /proc/self/ns/mnt | sort -u | wc -l
grep -E 'NoNewPrivs|Seccomp:' /proc/$first/status
stat -c '%a %n' /run/peel/*.sock
${peel} --root /var/lib/peel status --json | head -c 100000 | grep -c version
systemctl reload peel.service; echo reload $?
[ $(pid) = $first ] && echo same process
kill -KILL $first
while [ $(pid) = $first ] || [ "$(systemctl is-active peel.service)" != active ]; do sleep 0.1; done
say
holder() { systemctl show peel-keeper.service --property=MainPID --value; }
held=$(holder)
grep -E 'CapPrm|CapBnd|NoNewPrivs|Seccomp:' /proc/$held/status
tr '\\0' ' ' </proc/$held/cmdline; echo
systemctl reload peel-keeper.service; echo reload $?
while ! ${peel} --root /var/lib/peel status | grep -q '^keeper, process '$held; do sleep 0.1; done
systemctl restart peel.service; echo restart $?
[ $(holder) = $held ] && systemctl show peel-keeper.service --property=NRestarts --property=ActiveState --value
systemctl stop peel-keeper.service 2>&1 | grep -c refused
for i in $(seq ${stops}); do
  systemctl stop peel.service && systemctl start peel.service && systemctl reload peel-keeper.service || echo not started again
done
[ $(holder) = $held ] || echo another keeper
: >$1/end; wait
systemctl stop peel.service peel.socket; echo stop $?
systemctl is-active peel-keeper.service
systemctl show peel.service --property=Result --value
ls /run/peel/*.sock
echo end
`;

it.skipIf(!canRunSystemd)(
  'notifies, reloads, comes back after a crash and stops, and no read fails',
  async () => {
    const lab = await ImageLab.start();
    const members = Array.from({ length: 24 }, (_, i) => ({ path: `${i}`, data: randomBytes(200_000) }));
    const pushed = await lab.push('1', [labLayer(tarOf(...members))]);
    await lab.pushIndex(pushed, { spanSize: 64 << 10 });
    const sums = members.map(({ path, data }) => [path, sha256(data).slice('sha256:'.length)]);
    const box = Systemd.start({
      units: {
        'peel.socket': socket,
        'peel.service': service.replace('/usr/bin/peel daemon', `${peel} daemon --config @DIR@/config.toml`),
        'peel-keeper.service': keeper.replace('/usr/bin/peel', peel),
        'steps.service': `[Unit]\nAfter=peel.service\n[Service]\nType=oneshot\nExecStart=/bin/sh @DIR@/steps @DIR@ ${pushed.reference}\nStandardOutput=truncate:@DIR@/out/steps\nStandardError=null\n`,
      },
      files: { steps, readers: `${JSON.stringify({ root: image, files: sums })}\n`, 'config.toml': quiet },
      hidden: ['/var/lib'],
    });
    expect(await box.lines('out/steps')).toEqual([
      expect.stringMatching(/^\S.* 0 active $/),
      // One mount namespace, also with all that the daemon started.
      '1',
      'NoNewPrivs:\t1',
      'Seccomp:\t2',
      '600 /run/peel/control.sock',
      '600 /run/peel/keeper.sock',
      '600 /run/peel/snapshotter.sock',
      '1',
      'reload 0',
      'same process',
      expect.stringMatching(/^\S.* 1 active $/),
      // The keeper, which has no rights, goes on through all of it.
      'CapPrm:\t0000000000000000',
      'CapBnd:\t0000000000000000',
      'NoNewPrivs:\t1',
      'Seccomp:\t2',
      expect.stringMatching(/peel-keeper --socket \/run\/peel\/keeper.sock --capabilities \d+ $/),
      'reload 0',
      'restart 0',
      '0',
      'active',
      '1',
      'stop 0',
      'active',
      'success',
      // Left for the next start.
      '/run/peel/control.sock',
      '/run/peel/keeper.sock',
      '/run/peel/snapshotter.sock',
    ]);
    const report = (i: number) => JSON.parse(readFileSync(join(box.dir, `out/reader.${i}`), 'utf8')) as ReaderReport;
    const { reads, failed, wrong, longest } = summed(readers.map(report));
    const told = `${reads} files, ${failed.length} failed, ${wrong.length} wrong, longest pause ${Math.round(longest * 1000)} ms`;
    console.info(`units: ${stops} × stopped and started, killed and restarted once: ${told}`);
    expect([failed, wrong]).toEqual([[], []]);
    expect(reads).toBeGreaterThan(100);
  },
  600_000,
);
