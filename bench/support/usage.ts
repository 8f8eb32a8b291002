import { cli, output } from './machine.ts';
import type { Peel } from './peel.ts';

// wait4(2) reports what the child took; Node does not.
const runner = `import os, sys, time
start = time.monotonic()
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, '/dev/null', os.O_WRONLY, 0)])
_, status, usage = os.wait4(pid, 0)
print(usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime, time.monotonic() - start)
sys.exit(os.waitstatus_to_exitcode(status))`;

export interface Usage {
  /** Largest resident set, bytes. */
  readonly memory: number;
  /** Seconds of processor time, all threads. */
  readonly cpu: number;
  /** Seconds. */
  readonly time: number;
}

/** What one command takes. */
export async function usageOf(peel: Peel, ...args: string[]): Promise<Usage> {
  const env = { PEEL_RUN_DIR: peel.run };
  const text = await output('python3', ['-c', runner, process.execPath, cli, '--root', peel.root, ...args], env);
  const [memory = 0, cpu = 0, time = 0] = text.trim().split(' ').map(Number);
  return { memory, cpu, time };
}
