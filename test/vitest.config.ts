import { sep } from 'node:path';
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** Folders with tests of whole programs, or of all that may happen to one. They take long, and what starts last should not. */
const long = ['native', 'daemon', 'e2e', 'snapshotter', 'cli', 'image', 'registry', 'unpack', 'chaos'];

/** Compiles for a minute and then runs one program after the other: nothing may be left waiting for it. */
const longest = `test${sep}native${sep}executables`;

/** The long tests first, otherwise as vitest does it. */
class LongFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const isLong = ({ moduleId }: TestSpecification): boolean =>
      long.some((folder) => moduleId.includes(`${sep}test${sep}${folder}${sep}`));
    const sorted = await super.sort(files);
    const rank = (file: TestSpecification): number => (file.moduleId.includes(longest) ? 0 : isLong(file) ? 1 : 2);
    return sorted.toSorted((a, b) => rank(a) - rank(b));
  }
}

export default defineConfig({
  test: {
    root: new URL('..', import.meta.url).pathname,
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/support/clean-machine.ts'],
    setupFiles: ['test/support/equal-bytes.ts'],
    pool: 'forks',
    // A process keeps what all its files have loaded: a heap that begins large is not gone through again and again while it grows, and what runs for a second
    // only is not optimised.
    execArgv: ['--max-semi-space-size=64', '--initial-heap-size=1024', '--interrupt-budget=300000'],
    // Files run one after the other in processes that stay, which spares a start and the loading of all modules for each of them: a test leaves nothing
    // in its process that another file could see.
    isolate: false,
    sequence: { sequencer: LongFirst },
    // More than the two processors of the smallest machine: many tests wait for other processes.
    maxWorkers: 5,
    testTimeout: 60_000,
    hookTimeout: 120_000,
  },
});
