import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    root: new URL('..', import.meta.url).pathname,
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/support/clean-machine.ts'],
    setupFiles: ['test/support/equal-bytes.ts'],
    pool: 'forks',
    // More than the two processors of the smallest machine: many tests wait for other processes.
    maxWorkers: 3,
    testTimeout: 60_000,
    hookTimeout: 120_000,
  },
});
