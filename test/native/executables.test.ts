import { execFile, execFileSync } from 'node:child_process';
import { basename } from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, it } from 'vitest';

// The native tests are plain executables built with the address and undefined-behaviour sanitizers.
const native = new URL('../../native', import.meta.url).pathname;
const run = promisify(execFile);

const programs = execFileSync('make', ['-s', 'list'], { cwd: native, encoding: 'utf8' }).trim().split(/\s+/);

describe('native, under sanitizers', () => {
  beforeAll(async () => {
    await run('make', ['-j2'], { cwd: native, maxBuffer: 64 << 20 });
  }, 600_000);

  it.each(programs.map((path) => [basename(path), path]))(
    '%s',
    async (_, path) => {
      const { stdout } = await run(path, { cwd: native, maxBuffer: 64 << 20 });
      expect(stdout).toMatch(/\d+ tests\n$/);
    },
    300_000,
  );
});
