import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isDigest } from '../oci/digest.ts';
import type { Digest } from '../oci/digest.ts';
import type { LayerStore } from '../layer/layer-store.ts';
import type { State } from '../state/state.ts';
import { CompressedStore } from '../unpack/compressed-store.ts';
import { sweepRemoved } from './cache-sweep.ts';
import { ImageError } from './errors.ts';

/** One layer in the block cache, or as it was pushed, or both. */
export interface CacheEntry {
  readonly digest: Digest;
  /** Bytes that its files take on disk. */
  readonly diskBytes: number;
  /** Bytes of the compressed layer, where it is kept for the next who unpacks it. */
  readonly compressedBytes: number;
  /** Bytes of the blob; undefined for what a crash left. */
  readonly blobSize: number | undefined;
  /** Bytes of the layer stream, as far as known. */
  readonly streamSize: number | undefined;
  /** Where its index came from: `node`, `peel`, `soci-v1`, `soci-v2`. */
  readonly index: string | undefined;
  readonly suspect: string | undefined;
  /** ms since the epoch. */
  readonly usedAt: number;
  /** Directories that images with this layer are mounted on. */
  readonly mountedOn: readonly string[];
  /** A snapshot of containerd shows it, or the daemon mounts it when it starts: it stays although nobody has it open. */
  readonly kept: boolean;
}

export interface CacheRemoval {
  readonly removed: readonly Digest[];
  /** Left alone because a process uses them. */
  readonly busy: readonly Digest[];
  readonly freedBytes: number;
}

export interface CacheDeps {
  readonly root: string;
  readonly state: State;
  readonly layers: LayerStore;
}

/** Least recently used first. */
export async function cacheEntries(root: string, state: State): Promise<CacheEntry[]> {
  const rows = new Map(state.layers.list().map((row) => [row.digest, row]));
  const mounts = state.mounts.list();
  const kept = keptLayers(state);
  const compressed = new Map((await new CompressedStore(root).list()).map(({ digest, size }) => [digest, size]));
  const entries: CacheEntry[] = [];
  for (const digest of new Set([...(await digestsOnDisk(root)), ...compressed.keys()])) {
    const row = rows.get(digest);
    entries.push({
      digest,
      diskBytes: await diskBytes(join(root, 'blobs', ...digest.split(':'))),
      compressedBytes: compressed.get(digest) ?? 0,
      blobSize: row?.size,
      // 0 until the layer is opened for the first time.
      streamSize: row?.streamSize || undefined,
      index: row?.indexFormat,
      suspect: row?.suspect,
      usedAt: row?.usedAt ?? 0,
      mountedOn: mounts.filter(({ layers }) => layers.includes(digest)).map(({ dir }) => dir),
      kept: kept.has(digest),
    });
  }
  return entries.sort((a, b) => a.usedAt - b.usedAt || (a.digest < b.digest ? -1 : 1));
}

/** Errors: ERR_CACHE_UNKNOWN, ERR_CACHE_BUSY when a layer named alone is in use. */
export async function removeCached(deps: CacheDeps, which: readonly string[] | 'all'): Promise<CacheRemoval> {
  const entries = await cacheEntries(deps.root, deps.state);
  if (which === 'all') return await removeWhile(deps, entries, () => true);
  const chosen = which.map((text) => find(entries, text));
  const removal = await removeWhile(deps, chosen, () => true);
  if (removal.busy.length > 0) {
    const busy = chosen.filter(({ digest }) => removal.busy.includes(digest));
    const users = busy.flatMap(({ mountedOn }) => mountedOn);
    const unmounted = busy.some(({ kept }) => kept) ? 'snapshots of containerd show it' : 'a process has it open';
    const by = users.length > 0 ? `mounted on ${[...new Set(users)].join(', ')}` : unmounted;
    throw new ImageError('ERR_CACHE_BUSY', `in use and not removed: ${removal.busy.join(', ')} (${by})`);
  }
  return removal;
}

/** Whole layers, least recently used first, never one in use; before that, compressed ones, which nobody has open for long. */
export async function pruneCache(deps: CacheDeps, maxBytes: number): Promise<CacheRemoval> {
  const entries = await cacheEntries(deps.root, deps.state);
  const total = entries.reduce((sum, { diskBytes, compressedBytes }) => sum + diskBytes + compressedBytes, 0);
  return await removeWhile(deps, entries, (freed) => total - freed > maxBytes);
}

/** In the order given, for as long as `more` says so; of layers only those that `mayGo` and nobody uses. */
export async function removeWhile(
  deps: CacheDeps,
  entries: readonly CacheEntry[],
  more: (freed: number) => boolean,
  mayGo: (entry: CacheEntry) => boolean = () => true,
): Promise<CacheRemoval> {
  await sweepRemoved(deps.root);
  const compressed = new CompressedStore(deps.root);
  const removed: Digest[] = [];
  const busy: Digest[] = [];
  let freedBytes = 0;
  for (const { digest, compressedBytes } of entries) {
    if (!more(freedBytes)) break;
    // Also of a layer that is in use: reads need only what is in the block cache.
    if (compressedBytes > 0 && (await compressed.remove(digest))) freedBytes += compressedBytes;
  }
  for (const entry of entries) {
    if (!more(freedBytes)) break;
    if (!entry.kept && mayGo(entry) && (await deps.layers.remove(entry.digest))) {
      deps.state.layerSources.delete(entry.digest);
      removed.push(entry.digest);
      freedBytes += entry.diskBytes;
    } else busy.push(entry.digest);
  }
  return { removed, busy, freedBytes };
}

/** Nobody has to have them open: their mounts may live without a process, or wait for the daemon. */
export function keptLayers({ slots, mounts }: Pick<State, 'slots' | 'mounts'>): ReadonlySet<Digest> {
  const remade = mounts.list().filter(({ daemon }) => daemon);
  return new Set([...slots.shownLayers(), ...remade.flatMap(({ layers }) => layers)]);
}

function find(entries: readonly CacheEntry[], text: string): CacheEntry {
  const found = entries.filter(
    ({ digest }) => digest === text || digest.slice(digest.indexOf(':') + 1).startsWith(text),
  );
  const [only] = found;
  if (only === undefined) throw new ImageError('ERR_CACHE_UNKNOWN', `${text} is not in the cache`);
  if (found.length > 1)
    throw new ImageError('ERR_CACHE_UNKNOWN', `${text} is the beginning of ${found.length} digests: give more of it`);
  return only;
}

async function digestsOnDisk(root: string): Promise<Digest[]> {
  const found: Digest[] = [];
  for (const algorithm of ['sha256', 'sha512']) {
    const names = await readdir(join(root, 'blobs', algorithm)).catch(() => []);
    found.push(...names.map((hex) => `${algorithm}:${hex}`).filter((text) => isDigest(text)));
  }
  return found;
}

/** A file that is removed meanwhile counts nothing. */
async function diskBytes(dir: string): Promise<number> {
  let bytes = 0;
  for (const name of await readdir(dir).catch(() => [])) {
    const found = await stat(join(dir, name)).catch(() => undefined);
    bytes += (found?.blocks ?? 0) * 512;
  }
  return bytes;
}
