import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** The checkout: build/bench/support is three levels below it. */
export const checkout = fileURLToPath(new URL('../../..', import.meta.url)).replace(/\/$/, '');
export const cli = `${checkout}/dist/cli/main.js`;
export const workDir = process.env['PEEL_BENCH_DIR'] ?? '/var/tmp/peel-bench';

/** Of the sizes of inputs, to try a benchmark out; its figures then mean nothing. */
export const scale = Number(process.env['PEEL_BENCH_SCALE'] ?? 1);

/** Page cache, dentries and inodes, so that the next access is cold. Needs root. */
export function dropCaches(): void {
  execFileSync('sync');
  writeFileSync('/proc/sys/vm/drop_caches', '3');
}

const compiled = new Set<string>();

/** Path of what tools/NAME.cpp is compiled to, on first use. */
export function tool(name: string, ...flags: readonly string[]): string {
  const binary = `${workDir}/${name}`;
  if (!compiled.has(name)) {
    mkdirSync(workDir, { recursive: true });
    execFileSync('g++', ['-std=c++20', '-O2', ...flags, '-o', binary, `${checkout}/bench/tools/${name}.cpp`]);
    compiled.add(name);
  }
  return binary;
}

/** Runs tools/probe.cpp and returns its JSON line. */
export function probe(...args: string[]): Promise<Record<string, number>> {
  return output(tool('probe'), args).then((text) => JSON.parse(text) as Record<string, number>);
}

/** Standard output of a child process; rejects with its standard error when it fails. */
export function output(command: string, args: readonly string[], env: Record<string, string> = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } });
    let out = '';
    let error = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (error += text));
    child.once('error', reject);
    child.once('close', (code) => {
      if (code === 0) resolve(out);
      else reject(new Error(`${command} ${args.join(' ')} exited ${code}: ${error.trim()}`));
    });
  });
}

export function shell(script: string): Promise<string> {
  return output('bash', ['-euo', 'pipefail', '-c', script]);
}

export async function seconds(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
}

/** RssAnon of one process, bytes. */
export function residentAnonymous(pid: number): number {
  const line = /^RssAnon:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'));
  return Number(line?.[1] ?? 0) * 1024;
}

/** The largest resident set of one process so far, bytes. */
export function peakResident(pid: number): number {
  const line = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'));
  return Number(line?.[1] ?? 0) * 1024;
}

/** RssAnon in bytes, summed over every process whose command line names our command. */
export function anonymousMemory(): number {
  let total = 0;
  for (const pid of readdirSync('/proc')) {
    if (!/^[0-9]+$/.test(pid)) continue;
    try {
      if (!readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(cli)) continue;
      total += residentAnonymous(Number(pid));
    } catch {
      // The process ended while we looked at it.
    }
  }
  if (total === 0) throw new Error(`no process of ${cli} is running`);
  return total;
}

export function requireRoot(): void {
  if (process.getuid?.() !== 0) throw new Error('the benchmarks drop the page cache and mount: run them as root');
  if (!existsSync(cli)) throw new Error(`${cli} is missing: npm run build`);
}
