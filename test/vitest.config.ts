import { defineConfig } from 'vitest/config';

/**
 * Folders whose tests leave nothing in their process that another file could see. Their files run one after the other in processes that stay, which spares
 * a start and the loading of all modules for each of them.
 */
const sharing = ['config', 'index', 'observe', 'oci', 'registry', 'state', 'tar', 'tree', 'util', 'unpack', 'layer'];
const sharingFiles = sharing.map((folder) => `test/${folder}/**/*.test.ts`);

export default defineConfig({
  test: {
    root: new URL('..', import.meta.url).pathname,
    globalSetup: ['test/support/clean-machine.ts'],
    setupFiles: ['test/support/equal-bytes.ts'],
    pool: 'forks',
    // More than the two processors of the smallest machine: many tests wait for other processes.
    maxWorkers: 3,
    testTimeout: 60_000,
    hookTimeout: 120_000,
    // They run in the order of their names, so that the long tests of whole programs come first.
    projects: [
      { extends: true, test: { name: 'alone', include: ['test/**/*.test.ts'], exclude: sharingFiles } },
      { extends: true, test: { name: 'sharing', include: sharingFiles, isolate: false } },
    ],
  },
});
