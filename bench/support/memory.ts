import { cli, output } from './machine.ts';
import type { Peel } from './peel.ts';

// wait4(2) reports the largest resident set of the child; Node does not.
const runner = `import os, sys
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, '/dev/null', os.O_WRONLY, 0)])
_, status, usage = os.wait4(pid, 0)
print(usage.ru_maxrss * 1024)
sys.exit(os.waitstatus_to_exitcode(status))`;

/** Largest resident set of one command, bytes. */
export async function peakMemory(peel: Peel, ...args: string[]): Promise<number> {
  const env = { PEEL_RUN_DIR: peel.run };
  return Number(await output('python3', ['-c', runner, process.execPath, cli, '--root', peel.root, ...args], env));
}
