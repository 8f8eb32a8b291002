import { JobFolders } from '../unpack/job-folders.ts';
import type { UnpackJobRow } from '../state/unpack-jobs.ts';
import { guarded } from './check.ts';
import type { CheckOptions, FsckDeps } from './check.ts';

/** Unpack jobs and their folders against one another. Errors: errno codes; those of the database. */
export async function checkJobs({ root, state: { unpackJobs } }: FsckDeps, options: CheckOptions): Promise<void> {
  const folders = new JobFolders(root);
  const { repair, found } = options;
  const known = new Set<number>();
  for (const row of unpackJobs.list()) {
    known.add(row.job);
    const where = { place: 'job', subject: `${row.job} of layer ${row.layer}` } as const;
    await guarded(options, where, async () => {
      const what = lacking(row, folders);
      if (what === undefined) return;
      // What is in its folder goes then, too.
      if (repair && unpackJobs.delete(row.job)) known.delete(row.job);
      const how = repair ? 'forgotten; the layer is unpacked anew when it is wanted' : undefined;
      found({ ...where, what, repaired: repair, how });
    });
  }
  for (const { name, job } of await folders.names()) {
    // Those without a number are being made, or removed.
    if (job === undefined || known.has(job) || unpackJobs.get(job) !== undefined) continue;
    const where = { place: 'job', subject: name } as const;
    await guarded(options, where, async () => {
      const swept = repair && (await folders.sweep(name, () => unpackJobs.get(job) !== undefined));
      const how = !repair ? undefined : swept ? 'removed' : 'somebody uses it';
      found({ ...where, what: 'a folder that no job has', repaired: swept, how });
    });
  }
}

function lacking(row: UnpackJobRow, folders: JobFolders): string | undefined {
  if (row.state === 'expired' || row.state === 'claimed') return undefined;
  const lock = folders.tryLock(row.job);
  if (lock === 'busy') return undefined;
  if (lock === 'missing') return 'its folder is gone';
  try {
    return row.state === 'done' && row.form !== 'image' && !folders.hasTree(row.job)
      ? 'its tree is gone although it is done'
      : undefined;
  } finally {
    lock.release();
  }
}
