// The node's state against its digests: `peel fsck`.
import { join } from 'node:path';
import { isDigest } from '../oci/digest.ts';
import type { Digest } from '../oci/digest.ts';
import { allNamesIn } from '../util/all-names-in.ts';
import { guarded } from './check.ts';
import type { CheckOptions, FsckDeps } from './check.ts';
import { checkDatabase } from './check-database.ts';
import { checkDigests } from './check-digests.ts';
import { checkJobs } from './check-jobs.ts';
import { LayerCheck } from './check-layer.ts';
import { checkTrees } from './check-trees.ts';
import type { Finding } from './finding.ts';

export interface FsckOptions extends CheckOptions {
  /** Only these; without it everything. */
  readonly layers?: readonly Digest[] | undefined;
}

export interface FsckReport {
  readonly layers: number;
  readonly findings: readonly Finding[];
}

/** Whether nothing was wrong, all that was is mended, or something is left. */
export function fsckVerdict({ findings }: FsckReport): 'clean' | 'repaired' | 'left' {
  if (findings.length === 0) return 'clean';
  return findings.every(({ repaired }) => repaired) ? 'repaired' : 'left';
}

/**
 * Checks, and with `repair` mends, with and without processes that serve: what is wrong with one thing does not keep it from the others.
 * Errors: the signal's reason.
 */
export async function fsck(deps: FsckDeps, options: FsckOptions): Promise<FsckReport> {
  const findings: Finding[] = [];
  const found = (finding: Finding) => {
    findings.push(finding);
    options.found(finding);
  };
  const check = { ...options, found };
  const guard = (place: Finding['place'], subject: string, work: () => Promise<void>) =>
    guarded(check, { place, subject }, work);
  const isAll = options.layers === undefined;
  if (isAll) await guard('database', 'peel.db', () => checkDatabase(deps, check));
  let layers: readonly Digest[] = options.layers ?? [];
  if (isAll) await guard('layer', 'blobs', async () => void (layers = await allLayers(deps)));
  for (const layer of layers) await guard('layer', layer, () => LayerCheck.run(deps, layer, { ...check, whole: true }));
  if (isAll) {
    const { root } = deps;
    await guard('tree', 'trees', () => checkTrees(deps, check));
    await guard('content', 'content', () => checkDigests(root, { folder: 'content', place: 'content' }, check));
    const compressed = { folder: 'compressed', place: 'compressed' } as const;
    await guard('compressed', 'compressed', () => checkDigests(root, compressed, check));
    await guard('job', 'unpack', () => checkJobs(deps, check));
  }
  return { layers: layers.length, findings };
}

/** Those that have files or a row. Errors: errno codes; those of the database. */
export async function allLayers({ root, state }: Pick<FsckDeps, 'root' | 'state'>): Promise<Digest[]> {
  const found = new Set<Digest>(state.layers.list().map(({ digest }) => digest));
  for (const algorithm of ['sha256', 'sha512']) {
    for (const name of (await allNamesIn(join(root, 'blobs', algorithm))) ?? []) {
      const digest = `${algorithm}:${name}`;
      if (isDigest(digest)) found.add(digest);
    }
  }
  return [...found].sort();
}
