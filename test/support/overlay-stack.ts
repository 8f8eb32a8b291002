// Directories stacked by a real overlayfs.
import { join } from 'node:path';
import { treeDifference } from './list-tree.ts';
import { mountPoint } from './mounted.ts';
import { runOk } from './run.ts';

/** An overlay of `layers`, lowest first; writable with `upper` and `work` below `changes`. */
export async function stackOverlay(
  layers: readonly string[],
  { userXattr = false, changes }: { userXattr?: boolean; changes?: string } = {},
): Promise<string> {
  const options = [`lowerdir=${layers.toReversed().join(':')}`];
  if (changes !== undefined) options.push(`upperdir=${join(changes, 'upper')}`, `workdir=${join(changes, 'work')}`);
  if (userXattr) options.push('userxattr');
  const target = mountPoint();
  await runOk('mount', ['-n', '-t', 'overlay', 'overlay', '-o', options.join(','), target]);
  return target;
}

/** Overlayfs has its own idea of link counts: 1 for merged directories, and for files what their layer says. */
export function stackDifference(actual: readonly string[], expected: readonly string[]): string {
  return treeDifference(actual.map(withoutLinkCount), expected.map(withoutLinkCount));
}

function withoutLinkCount(line: string): string {
  return line
    .split('\t')
    .map((text, column) => (column === 7 ? '-' : text))
    .join('\t');
}
