import type { ScrubStats } from '../fsck/scrub.ts';
import { findingText } from '../fsck/finding.ts';
import { errorMessage } from '../layer/errors.ts';
import type { State } from '../state/state.ts';

const most = 20;

export interface Degradation {
  readonly state: Pick<State, 'integrity' | 'layers'>;
  readonly scrub: ScrubStats | undefined;
  /** What the machine has too little of; undefined while nothing is missing. */
  readonly shortage: string | undefined;
}

/** What of the node's state is left out or not trusted, and what is not done meanwhile, one line each; `peel fsck` says more. Never throws. */
export function degradedLines({ state, scrub, shortage }: Degradation): string[] {
  const lines: string[] = [];
  if (shortage !== undefined) lines.push(`only what is waited for is fetched: ${shortage}`);
  try {
    for (const { table, key, why } of state.integrity.damagedRows())
      lines.push(`row ${key} of ${table} in the database is damaged and left out: ${why}`);
    for (const { digest, suspect } of state.layers.list())
      if (suspect !== undefined) lines.push(`layer ${digest} is not trusted: ${suspect}`);
  } catch (error) {
    lines.push(`the database cannot be read: ${errorMessage(error)}`);
  }
  lines.push(...(scrub?.left ?? []).map(findingText));
  return lines.length > most ? [...lines.slice(0, most), `and ${lines.length - most} more: see \`peel fsck\``] : lines;
}
