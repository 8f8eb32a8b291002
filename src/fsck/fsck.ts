// The node's state against its digests: `peel fsck`.
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { errorMessage } from '../layer/errors.ts';
import { isDigest } from '../oci/digest.ts';
import type { Digest } from '../oci/digest.ts';
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
  const guarded = async (place: Finding['place'], subject: string, work: () => Promise<void>): Promise<void> => {
    try {
      await work();
    } catch (error) {
      options.signal.throwIfAborted();
      found({ place, subject, what: `cannot be checked: ${errorMessage(error)}`, repaired: false, how: undefined });
    }
  };
  if (options.layers === undefined) await guarded('database', 'peel.db', () => checkDatabase(deps, check));
  const layers = options.layers ?? (await allLayers(deps));
  for (const layer of layers)
    await guarded('layer', layer, () => LayerCheck.run(deps, layer, { ...check, whole: true }));
  if (options.layers === undefined) {
    const { root } = deps;
    await guarded('tree', 'trees', () => checkTrees(deps, check));
    await guarded('content', 'content', () => checkDigests(root, { folder: 'content', place: 'content' }, check));
    const compressed = { folder: 'compressed', place: 'compressed' } as const;
    await guarded('compressed', 'compressed', () => checkDigests(root, compressed, check));
    await guarded('job', 'unpack', () => checkJobs(deps, check));
  }
  return { layers: layers.length, findings };
}

/** Those that have files or a row. */
export async function allLayers({ root, state }: Pick<FsckDeps, 'root' | 'state'>): Promise<Digest[]> {
  const found = new Set<Digest>(state.layers.list().map(({ digest }) => digest));
  for (const algorithm of ['sha256', 'sha512']) {
    for (const name of await readdir(join(root, 'blobs', algorithm)).catch(() => [])) {
      const digest = `${algorithm}:${name}`;
      if (isDigest(digest)) found.add(digest);
    }
  }
  return [...found].sort();
}
