// Small layers with the peel tables and windows that the builder makes of them, and a node that opens them by what it is offered instead.
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { buildLayerIndex } from '../../src/index/builder.ts';
import { readPeelTable } from '../../src/index/peel-table-reader.ts';
import type { PeelTable } from '../../src/index/peel-table-reader.ts';
import { peelFromBuild } from '../../src/image/peel-from-build.ts';
import type { BlobSource } from '../../src/layer/blob-source.ts';
import { LayerDirectories } from '../../src/layer/layer-paths.ts';
import { LayerStore } from '../../src/layer/layer-store.ts';
import type { RemotePeelIndex } from '../../src/layer/layer-store.ts';
import type { Layer } from '../../src/layer/layer.ts';
import { silentLog } from '../../src/observe/log.ts';
import type { Descriptor } from '../../src/oci/descriptor.ts';
import type { Digest } from '../../src/oci/digest.ts';
import type { State } from '../../src/state/state.ts';
import { openState } from '../../src/state/state.ts';
import type { TarEntry } from '../../src/tar/entry.ts';
import { readErofs } from '../../src/tree/erofs-reader.ts';
import { treeEntries } from '../../src/tree/tree-entries.ts';
import { Semaphore } from '../../src/util/semaphore.ts';
import { chunked, noise, sha256, skippable, zstdFrames } from '../index/layers.ts';
import { random } from '../support/damage.ts';
import { tarOf } from '../support/tar-members.ts';

/** A layer as it really is, and a right index of it. */
export interface PeelTruth {
  readonly name: string;
  readonly tar: Buffer;
  readonly blob: Buffer;
  readonly descriptor: Descriptor;
  readonly diffId: Digest;
  readonly table: Buffer;
  /** Empty when no span needs one. */
  readonly windows: Buffer;
  /** What `table` says. */
  readonly read: PeelTable;
  readonly entries: readonly TarEntry[];
}

/** Words that come again from all over a window, and new ones. */
function prose(length: number, seed: number): Buffer {
  const below = random(seed);
  const words = noise(6000).toString('base64');
  const parts: string[] = [];
  for (let size = 0; size < length; size += 16) {
    const at = below(words.length - 40);
    parts.push(below(3) === 0 ? below(2 ** 32).toString(36) : words.slice(at, at + 8 + below(16)));
  }
  return Buffer.from(parts.join(' ')).subarray(0, length);
}

/** Long gzip members, which need sparse windows; members of which some are cut; zstd in frames; no compression. */
export async function makePeelTruths(): Promise<PeelTruth[]> {
  const tar = tarOf(
    { path: 'bin', type: 'dir', mode: 0o711 },
    { path: 'bin/prose', data: prose(110_000, 1), mode: 0o4755, uid: 7, mtimeNs: 5 },
    { path: 'bin/noise', data: noise(50_000), xattrs: { 'user.note': 'noise' } },
    { path: 'bin/zeros', data: Buffer.alloc(40_000) },
    { path: 'bin/.wh.gone' },
    { path: 'bin/link', type: 'symlink', link: '../etc' },
    { path: 'bin/hard', type: 'hardlink', link: 'bin/noise' },
    { path: 'etc', type: 'dir' },
    { path: 'etc/more', data: prose(60_000, 2) },
    { path: 'etc/tty', type: 'char', major: 5, minor: 1 },
  );
  // Short blocks: many places to begin at.
  const gzip = (bytes: Buffer) => gzipSync(bytes, { memLevel: 4 });
  const cuts = [0, 90_001, 95_000, 140_000, tar.length];
  const members = cuts.slice(1).map((end, i) => gzip(tar.subarray(cuts[i], end)));
  return await Promise.all([
    truthOf('one gzip member', tar, gzip(tar), '+gzip'),
    truthOf('gzip members', tar, Buffer.concat(members), '+gzip'),
    truthOf('zstd frames', tar, zstdFrames(tar, 9_000, skippable('a note')), '+zstd'),
    truthOf('no compression', tar, tar, ''),
  ]);
}

async function truthOf(name: string, tar: Buffer, blob: Buffer, suffix: string): Promise<PeelTruth> {
  const build = await buildLayerIndex(chunked(blob), { fineSpanSize: 12 << 10 });
  const made = peelFromBuild(build);
  if (made.table === undefined) throw new Error(made.skipped);
  const read = readPeelTable(made.table);
  const mediaType = `application/vnd.oci.image.layer.v1.tar${suffix}`;
  return {
    name,
    tar,
    blob,
    descriptor: { mediaType, digest: build.blobDigest, size: blob.length },
    diffId: build.diffId,
    table: Buffer.from(made.table),
    windows: Buffer.from(made.windows ?? []),
    read,
    entries: treeEntries(readErofs(read.tree)),
  };
}

/** What an index offers of a layer, and what the registry then gives. */
export interface PeelOffer {
  readonly table: Uint8Array;
  /** As the index names it. */
  readonly windows: Uint8Array;
  /** What comes in place of it. */
  readonly given?: Uint8Array;
  /** What the node has of it. */
  readonly held?: Uint8Array | undefined;
}

export class OfferedNode {
  readonly #store: LayerStore;
  readonly #state: State;
  readonly #slots = new Semaphore(16);

  private constructor(store: LayerStore, state: State) {
    this.#store = store;
    this.#state = state;
  }

  static async open(root: string): Promise<OfferedNode> {
    const state = openState(root);
    const store = new LayerStore({
      directories: await LayerDirectories.open(root, join(root, 'run')),
      table: state.layers,
      slots: new Semaphore(16),
      log: silentLog(),
      readDeadlineMs: 20_000,
    });
    return new OfferedNode(store, state);
  }

  /** Errors: as those of opening a layer that must have an index; of which there is but this. */
  async openLayer(truth: PeelTruth, offer: PeelOffer): Promise<Layer> {
    const { descriptor, diffId, blob } = truth;
    const { table, windows, given = windows, held } = offer;
    const index: RemotePeelIndex = {
      format: 'peel',
      digest: sha256(Buffer.from('an index')),
      source: 'a test',
      table: described(table),
      windows: windows.length === 0 ? undefined : described(windows),
      load: async () => table,
      findWindows: async () => held,
    };
    return await this.#store.open({
      descriptor,
      diffId,
      source: { ...bytesSource(blob), blob: () => bytesSource(given) },
      findIndex: async (attempt) => ({ index: attempt === 0 ? index : undefined, reason: 'there is no other' }),
      indexRequired: true,
      slots: this.#slots,
      onWarning: () => {},
    });
  }

  suspect({ descriptor }: PeelTruth): string | undefined {
    return this.#state.layers.get(descriptor.digest)?.suspect;
  }

  async forget({ descriptor }: PeelTruth): Promise<void> {
    if (!(await this.#store.remove(descriptor.digest))) throw new Error('the layer is still in use');
  }

  close(): void {
    this.#state.close();
  }
}

function described(bytes: Uint8Array): Descriptor {
  return { mediaType: 'application/octet-stream', digest: sha256(bytes), size: bytes.length };
}

function bytesSource(bytes: Uint8Array): BlobSource {
  const readRange = async (start: number, end: number) => {
    const body = Readable.from([bytes.subarray(start, end)], { objectMode: false });
    return { descriptor: described(new Uint8Array(0)), body, close: () => void body.destroy() };
  };
  return { name: 'a blob', readRange, readAll: () => readRange(0, bytes.length) };
}
