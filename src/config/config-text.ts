// A configuration as text, for people.
import type { ConfigKey } from './config-keys.ts';
import { configKeys, valueAt } from './config-keys.ts';
import { showKey } from './key-path.ts';
import { configSchema } from './schema.ts';
import type { DaemonConfig } from './schema.ts';
import { socketPaths } from './sockets.ts';

/** A valid file that says all of it. What is not set is left out, or is a comment where it follows from another key. */
export function configToml(config: DaemonConfig): string[] {
  const { control, snapshotter, cri } = socketPaths(config);
  const derived = {
    control: { socket: control },
    snapshotter: { socket: snapshotter },
    credentials: { cri: { socket: cri } },
  };
  const lines: string[] = [];
  // TOML has the keys of a table before the tables in it.
  for (const [table, keys] of tables()) {
    const own = keys.flatMap((key) => {
      const name = key.path.at(-1) ?? '';
      const value = valueAt(config, key.path);
      if (value !== undefined) return [`${name} = ${key.write(value)}`];
      const follows = valueAt(derived, key.path);
      return follows === undefined ? [] : [`# ${name} = ${key.write(follows)}`];
    });
    if (own.length === 0) continue;
    if (table !== '') lines.push('', `[${table}]`);
    lines.push(...own);
  }
  return lines;
}

export interface ChangedKey {
  readonly key: string;
  /** In TOML; undefined when the key has no default. */
  readonly value: string;
  readonly default: string | undefined;
}

/** The keys that differ from their default. */
export function changedKeys(config: DaemonConfig): ChangedKey[] {
  const defaults = configSchema.parse({});
  return configKeys().flatMap(({ path, isTable, write }) => {
    const [value, usual] = [valueAt(config, path), valueAt(defaults, path)];
    if (isTable || value === undefined || write(value) === write(usual)) return [];
    return [{ key: showKey(path), value: write(value), default: usual === undefined ? undefined : write(usual) }];
  });
}

function tables(): Map<string, ConfigKey[]> {
  const found = new Map<string, ConfigKey[]>();
  for (const key of configKeys()) {
    if (key.isTable) continue;
    const table = showKey(key.path.slice(0, -1));
    found.set(table, [...(found.get(table) ?? []), key]);
  }
  return found;
}
