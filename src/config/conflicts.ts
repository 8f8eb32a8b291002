// What no single key is wrong about.
import { relative, resolve } from 'node:path';
import type { KeyPath } from './key-path.ts';
import { showKey } from './key-path.ts';
import { isSocketPath, maxSocketPath, parseListenAddress } from './listen-address.ts';
import type { DaemonConfig } from './schema.ts';
import { socketPaths } from './sockets.ts';

export interface Conflict {
  readonly path: KeyPath;
  readonly what: string;
}

/** The daemon refuses a configuration with any of these. */
export function conflictsOf(config: DaemonConfig): Conflict[] {
  return [
    ...socketConflicts(config),
    ...keyFileConflicts(config),
    ...kubeletConflicts(config),
    ...cacheConflicts(config),
  ];
}

function cacheConflicts({ cache: { high, low } }: DaemonConfig): Conflict[] {
  if (low < high) return [];
  return [{ path: ['cache', 'low'], what: `must be below cache.high, which is ${high}` }];
}

/**
 * Serving is on and no index could be used. The daemon runs with it, and leaves every layer to containerd for this reason; whoever
 * checks the file is told that it is wrong.
 */
export function formatsConflict({ snapshotter, index }: DaemonConfig): Conflict | undefined {
  const isServing = snapshotter.enabled && snapshotter.mode === 'lazy';
  if (!isServing || Object.values(index.formats).includes(true)) return undefined;
  const what = 'every index format is switched off, so no layer can be served: switch one on, or set snapshotter.mode';
  return { path: ['index', 'formats'], what: `${what} to "defer"` };
}

/** What is wrong with a configuration that the daemon puts up with, as sentences. */
export function configWarnings(config: DaemonConfig): string[] {
  const conflict = formatsConflict(config);
  return conflict === undefined ? [] : [`${showKey(conflict.path)}: ${conflict.what}`];
}

function* socketConflicts(config: DaemonConfig): Generator<Conflict> {
  const { control, snapshotter, cri } = socketPaths(config);
  const metrics = config.metrics.address === undefined ? undefined : parseListenAddress(config.metrics.address);
  const uses: [KeyPath, string][] = [[['control', 'socket'], control]];
  if (config.snapshotter.enabled) uses.push([['snapshotter', 'socket'], snapshotter]);
  if (metrics && 'path' in metrics) uses.push([['metrics', 'address'], metrics.path]);
  if (config.credentials.cri.enabled) {
    uses.push([['credentials', 'cri', 'socket'], cri]);
    uses.push([['credentials', 'cri', 'upstream'], config.credentials.cri.upstream]);
  }
  const taken = new Map<string, KeyPath>();
  for (const [path, socket] of uses) {
    const other = taken.get(resolve(socket));
    if (other) yield { path, what: `expected another path than that of ${showKey(other)}, ${socket}` };
    taken.set(resolve(socket), path);
    // Only one that is made from run_dir can be too long here.
    if (!isSocketPath(socket))
      yield { path: ['run_dir'], what: `too long for ${showKey(path)}, ${socket}: more than ${maxSocketPath} bytes` };
  }
}

/** Who gets hold of the state directory, as in a backup, must not have the key of what is in it. */
function* keyFileConflicts({ root, credentials: { key_file: keyFile } }: DaemonConfig): Generator<Conflict> {
  if (keyFile === undefined || !isWithin(resolve(root), resolve(keyFile))) return;
  yield {
    path: ['credentials', 'key_file'],
    what: `the key must lie on another path than the state directory, ${root}, where the secrets are kept`,
  };
}

function* kubeletConflicts({ credentials: { kubelet } }: DaemonConfig): Generator<Conflict> {
  const set = kubelet.config !== undefined || kubelet.bin_dir !== undefined;
  for (const name of ['config', 'bin_dir'] as const) {
    if (set && kubelet[name] === undefined)
      yield { path: ['credentials', 'kubelet', name], what: 'missing: kubelet.config and kubelet.bin_dir go together' };
  }
}

function isWithin(dir: string, path: string): boolean {
  const way = relative(dir, path);
  return way !== '..' && !way.startsWith('../');
}
