// The folders of repositories. A repository is there when it has a folder whose name begins with `_`; below it others may lie.
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { isRepository } from '../../oci/reference.ts';
import { allNamesIn } from '../../util/all-names-in.ts';
import { isNotFound } from './durable-file.ts';
import type { StorePaths } from './paths.ts';

/** Sorted. */
export async function repositoriesOf(paths: StorePaths): Promise<string[]> {
  const names: string[] = [];
  await visitFolders(paths, async (name, own) => {
    if (name !== '' && own.length > 0) names.push(name);
  });
  return names.sort();
}

/** Calls `visit` for every folder of the tree, those below before those above, with the names in it that begin with `_`. */
export async function visitFolders(
  paths: StorePaths,
  visit: (name: string, own: readonly string[]) => Promise<void>,
  name = '',
): Promise<void> {
  const dir = path.join(paths.repositories, name);
  const entries = await readdir(dir, { withFileTypes: true }).catch((error: unknown) => {
    if (isNotFound(error)) return [];
    throw error;
  });
  for (const entry of entries) {
    if (entry.isDirectory() && isRepository(entry.name))
      await visitFolders(paths, visit, name === '' ? entry.name : `${name}/${entry.name}`);
  }
  await visit(
    name,
    entries.map((entry) => entry.name).filter((own) => own.startsWith('_')),
  );
}

/** Names in a folder without temporary files, sorted; undefined when there is no such folder. */
export async function namesIn(dir: string): Promise<string[] | undefined> {
  return (await allNamesIn(dir))?.filter((name) => !name.startsWith('.')).sort();
}
