// Books of unpack jobs over one state directory: each with a database connection of its own, as a process of its own has it.
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { onTestFinished } from 'vitest';
import { silentLog } from '../../src/observe/log.ts';
import { parseDigest } from '../../src/oci/digest.ts';
import type { NewUnpackJob } from '../../src/state/unpack-jobs.ts';
import { openState } from '../../src/state/state.ts';
import { JobBook } from '../../src/unpack/job-book.ts';
import { keptMemoryDir } from './tmp.ts';

const digest = (hex: string) => parseDigest(`sha256:${hex.repeat(64)}`);

export const jobRequest: NewUnpackJob = {
  layer: digest('a'),
  diffId: digest('b'),
  form: 'overlay',
  size: 1000,
  mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
  image: 'app:1',
};

/** A state directory whose syncs cost nothing. */
export function jobsRoot(): string {
  const dir = keptMemoryDir();
  onTestFinished(() => dir[Symbol.dispose]());
  return dir.path;
}

export function openBook(root: string, { boot = 'this boot' }: { readonly boot?: string } = {}) {
  const state = openState(root);
  const book = new JobBook({ root, table: state.unpackJobs, boot, log: silentLog() });
  onTestFinished(() => {
    book.close();
    state.close();
  });
  return { book, state };
}

/** Names in the folder of the jobs, sorted. */
export function jobFolders(root: string): string[] {
  const dir = path.join(root, 'unpack');
  return existsSync(dir) ? readdirSync(dir).sort() : [];
}
