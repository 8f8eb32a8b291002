// What a client may ask for: limits on names and labels, which end up in a database and in every List.
import { SnapshotError } from './errors.ts';
import type { Labels } from './layer-provider.ts';

const maxKeyBytes = 1024;
/** Of a label's name and value together, as containerd has it. */
const maxLabelBytes = 4096;
const maxLabels = 256;

/** Errors: ERR_SNAPSHOT_ARGUMENT. */
export function checkKey(key: string, what: 'key' | 'name' | 'parent' = 'key'): void {
  if (key === '') throw new SnapshotError('ERR_SNAPSHOT_ARGUMENT', `the ${what} of a snapshot must not be empty`);
  const bytes = Buffer.byteLength(key);
  if (bytes <= maxKeyBytes) return;
  const start = JSON.stringify(key.slice(0, 40));
  throw new SnapshotError(
    'ERR_SNAPSHOT_ARGUMENT',
    `the ${what} ${start}… of a snapshot has ${bytes} bytes; ${maxKeyBytes} are allowed`,
  );
}

/** The labels that are kept: like containerd, none without a value. Errors: ERR_SNAPSHOT_ARGUMENT. */
export function checkedLabels(labels: Labels): Labels {
  const kept = Object.entries(labels).filter(([, value]) => value !== '');
  if (kept.length > maxLabels) {
    throw new SnapshotError('ERR_SNAPSHOT_ARGUMENT', `${kept.length} labels; ${maxLabels} are allowed`);
  }
  for (const [name, value] of kept) {
    if (name === '') throw new SnapshotError('ERR_SNAPSHOT_ARGUMENT', 'a label must have a name');
    const bytes = Buffer.byteLength(name) + Buffer.byteLength(value);
    if (bytes <= maxLabelBytes) continue;
    throw new SnapshotError(
      'ERR_SNAPSHOT_ARGUMENT',
      `label ${JSON.stringify(name.slice(0, 80))}: name and value have ${bytes} bytes; ${maxLabelBytes} are allowed`,
    );
  }
  return Object.fromEntries(kept);
}
