// The daemon itself in its sandbox, started, reloaded, restarted and stopped by a real systemd.
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { peelMain } from '../support/run.ts';
import { canRunSystemd, Systemd } from '../support/systemd.ts';

const folder = new URL('../../systemd/', import.meta.url).pathname;
const service = readFileSync(`${folder}peel.service`, 'utf8');
const keeper = readFileSync(`${folder}peel-keeper.service`, 'utf8');
const socket = readFileSync(`${folder}peel.socket`, 'utf8');
const peel = `${process.execPath} ${peelMain}`;

/** What the person at the shell does, as a service beside. */
const steps = `
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
systemctl stop peel.service peel.socket; echo stop $?
systemctl is-active peel-keeper.service
systemctl show peel.service --property=Result --value
ls /run/peel/*.sock
echo end
`;

it.skipIf(!canRunSystemd)('notifies, reloads, comes back after a crash and stops', async () => {
  const box = Systemd.start({
    units: {
      'peel.socket': socket,
      'peel.service': service.replace('/usr/bin/peel', peel),
      'peel-keeper.service': keeper.replace('/usr/bin/peel', peel),
      'steps.service': `[Unit]\nAfter=peel.service\n[Service]\nType=oneshot\nExecStart=/bin/sh @DIR@/steps\nStandardOutput=truncate:@DIR@/out/steps\nStandardError=null\n`,
    },
    files: { steps },
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
});
