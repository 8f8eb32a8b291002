// What the daemon may do on the machine, and what it does not show of itself.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { capabilityNumbers } from '../support/capability-numbers.ts';
import { DaemonProcess } from '../support/daemon-process.ts';
import { PeelNode } from '../support/peel-node.ts';
import { runOk } from '../support/run.ts';
import { unitSettings } from '../support/unit-file.ts';

const repository = new URL('../..', import.meta.url).pathname;
const isRoot = process.getuid?.() === 0;

/** What SECURITY.md lists under the heading of the daemon's capabilities. */
function promised(): string[] {
  const [, section = ''] =
    /\n## Capabilities of the daemon\n([\s\S]*?)\n## /.exec(readFileSync(join(repository, 'SECURITY.md'), 'utf8')) ??
    [];
  return [...section.matchAll(/^\| `(CAP_\w+)`/gm)].map((match) => match[1] ?? '');
}

function maskOf(names: readonly string[]): bigint {
  return names.reduce((mask, name) => mask | (1n << BigInt(capabilityNumbers[name] as number)), 0n);
}

const node = new PeelNode();
const core = join(node.dir, 'core-dumped');
let daemon: DaemonProcess;
beforeAll(async () => {
  daemon = await DaemonProcess.start(node, {
    through: ['python3', join(repository, 'test/support/core-dumped.py'), core],
  });
});
afterAll(() => node.close());

async function daemonPid(): Promise<number> {
  return (JSON.parse(await node.ok(['status', '--json'])) as { pid: number }).pid;
}

describe('the daemon', () => {
  it('is given what SECURITY.md says by its unit', () => {
    const unit = unitSettings(readFileSync(join(repository, 'systemd/peel.service'), 'utf8'));
    const given = unit.flatMap(({ key, value }) => (key === 'CapabilityBoundingSet' ? value.split(' ') : []));
    expect(promised().length).toBeGreaterThan(0);
    expect(given.toSorted()).toEqual(promised().toSorted());
  });

  it.skipIf(!isRoot)(
    'has these capabilities in every thread, whoever started it, and so has what it starts',
    async () => {
      const pid = await daemonPid();
      const threads = readdirSync(`/proc/${pid}/task`);
      expect(threads.length).toBeGreaterThan(1);
      for (const thread of threads) {
        const status = readFileSync(`/proc/${pid}/task/${thread}/status`, 'utf8');
        for (const set of ['CapEff', 'CapPrm', 'CapBnd']) {
          const [, mask = ''] = new RegExp(`^${set}:\\s*([0-9a-f]+)$`, 'm').exec(status) ?? [];
          expect(BigInt(`0x${mask}`), `${set} of thread ${thread}`).toBe(maskOf(promised()));
        }
      }
    },
  );

  it('leaves no core file when it crashes, where another program does', async () => {
    const other = join(node.dir, 'other');
    await runOk('python3', [join(repository, 'test/support/core-dumped.py'), other, 'sh', '-c', 'kill -QUIT $$']);
    expect(readFileSync(other, 'utf8')).toBe('dumped');
    process.kill(await daemonPid(), 'SIGQUIT');
    await expect.poll(() => existsSync(core), { timeout: 20_000 }).toBe(true);
    expect(readFileSync(core, 'utf8')).toBe('not dumped');
    expect(daemon.log).not.toContain('unexpected error');
  });
});
