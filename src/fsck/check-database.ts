// The database by itself, and what it says of files that should be there.
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { errorMessage } from '../layer/errors.ts';
import type { CheckOptions, FsckDeps } from './check.ts';

/** Errors: those of a database that cannot be asked at all. */
export async function checkDatabase(deps: FsckDeps, options: CheckOptions): Promise<void> {
  checkFile(deps, options);
  const { integrity } = deps.state;
  for (const what of integrity.danglingRows()) tell(options, 'database', 'peel.db', what);
  const damaged = integrity.damagedRows();
  if (options.repair && damaged.some(({ mayGo }) => mayGo)) integrity.deleteDamagedRows();
  for (const { table, key, why, mayGo } of damaged)
    tell(options, 'database', `${table} ${key}`, why, mayGo ? 'deleted; it is learned again' : undefined);
  await checkSlots(deps, options);
  await checkSnapshots(deps, options);
}

function checkFile({ state: { integrity } }: FsckDeps, options: CheckOptions): void {
  const errors = integrity.fileErrors();
  if (errors.length === 0) return;
  let left: readonly string[] = errors;
  if (options.repair) {
    try {
      integrity.reindex();
      left = integrity.fileErrors();
    } catch (error) {
      left = [...errors, errorMessage(error)];
    }
  }
  for (const what of errors)
    tell(options, 'database', 'peel.db', what, left.includes(what) ? undefined : 'its indexes were made anew');
}

async function checkSlots({ state, store }: FsckDeps, options: CheckOptions): Promise<void> {
  for (const { slot, layer, error } of state.slots.list()) {
    if (!state.slots.isShown(slot)) continue;
    const subject = `${slot.toString(36)} of layer ${layer}`;
    if (error !== undefined) tell(options, 'snapshot', subject, error);
    else if (!(await isThere(store.paths(layer).index)))
      tell(options, 'snapshot', subject, 'snapshots show it, and its files are gone');
  }
}

async function checkSnapshots({ root, state }: FsckDeps, options: CheckOptions): Promise<void> {
  for (const id of state.snapshots.directoryIds()) {
    const name = id.toString(36);
    if (!(await isThere(join(root, 's', name, 'fs')))) tell(options, 'snapshot', name, 'its directory is gone');
  }
}

/** `done`: what a repair did; undefined where there is none. */
function tell(
  { repair, found }: CheckOptions,
  place: 'database' | 'snapshot',
  subject: string,
  what: string,
  done?: string,
): void {
  const repaired = repair && done !== undefined;
  found({ place, subject, what, repaired, how: repaired ? done : undefined });
}

async function isThere(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  );
}
