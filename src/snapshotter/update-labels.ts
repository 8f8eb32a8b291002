import { SnapshotError } from './errors.ts';
import type { Labels } from './layer-provider.ts';
import { checkedLabels } from './requests.ts';

export interface LabelUpdate {
  readonly labels: Labels;
  /** Of a field mask: `labels`, `labels.<name>`; none stands for all labels. */
  readonly paths: readonly string[];
}

const maxPaths = 1024;

/** The labels after an update. Errors: ERR_SNAPSHOT_ARGUMENT for anything but labels, and beyond the limits. */
export function updatedLabels(key: string, before: Labels, { labels, paths }: LabelUpdate): Labels {
  if (paths.length === 0) return checkedLabels(labels);
  if (paths.length > maxPaths) {
    throw new SnapshotError('ERR_SNAPSHOT_ARGUMENT', `a field mask of ${paths.length} paths; ${maxPaths} are allowed`);
  }
  const given = new Map(Object.entries(labels));
  let after = new Map(Object.entries(before));
  for (const path of paths) {
    if (path === 'labels') {
      after = new Map(given);
    } else if (path.startsWith('labels.')) {
      const name = path.slice('labels.'.length);
      // One that is not given goes, as does one without a value.
      after.set(name, given.get(name) ?? '');
    } else {
      const shown = JSON.stringify(path.slice(0, 200));
      throw new SnapshotError(
        'ERR_SNAPSHOT_ARGUMENT',
        `cannot update field ${shown} of snapshot ${JSON.stringify(key)}`,
      );
    }
  }
  return checkedLabels(Object.fromEntries(after));
}
