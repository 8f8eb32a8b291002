// What the OCI distribution spec (1.1, and what is agreed for the next one) requires of a registry, asked over plain HTTP.
import { blobs } from './blobs.ts';
import { deletesAndErrors } from './deletes-and-errors.ts';
import { lists } from './lists.ts';
import { manifests } from './manifests.ts';
import { ranges } from './ranges.ts';
import { Suite } from './suite.ts';
import type { Deviation, DistributionTarget } from './suite.ts';
import { uploads } from './uploads.ts';

/** Registers the suite with vitest. `start` is called before the first test; what it starts is closed after the last. */
export function distributionConformance(
  name: string,
  start: () => Promise<DistributionTarget>,
  deviations: readonly Deviation[] = [],
): void {
  new Suite(start, deviations).run(name, [blobs, ranges, uploads, manifests, lists, deletesAndErrors]);
}
