import { isDeepStrictEqual } from 'node:util';
import type { DaemonConfig } from '../config/schema.ts';

/** Keys that a running daemon takes over; anything below them as well. */
const reloadable: readonly string[] = [
  'log',
  'metrics',
  'download',
  'read',
  'unpack',
  'index.publish',
  'fill',
  'cache',
  'scrub',
  'read_ahead',
  'profile',
];

/** Keys with another value, in full, e.g. `snapshotter.socket`. */
export function changedKeys(before: DaemonConfig, after: DaemonConfig): string[] {
  return differences(before, after, '');
}

/** Those of them that count only after a restart. */
export function restartKeys(before: DaemonConfig, after: DaemonConfig): string[] {
  return changedKeys(before, after).filter((key) => !reloadable.some((name) => `${key}.`.startsWith(`${name}.`)));
}

function differences(before: object, after: object, prefix: string): string[] {
  const names = new Set([...Object.keys(before), ...Object.keys(after)]);
  return [...names].flatMap((name) => {
    const [a, b] = [valueOf(before, name), valueOf(after, name)];
    if (isSection(a) && isSection(b)) return differences(a, b, `${prefix}${name}.`);
    return isDeepStrictEqual(a, b) ? [] : [`${prefix}${name}`];
  });
}

function valueOf(section: object, name: string): unknown {
  return (section as Readonly<Record<string, unknown>>)[name];
}

function isSection(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
