// Peel tables and windows as a broken or hostile producer, a bad disk or a lying mirror would give them, through all that a node does with
// them: read the table, make the layer's index file, fetch and decode every span, read every file, fill the layer.
//
// Damage, which leaves the digests alone, is refused or without effect: no wrong byte is served. Whoever forges an index makes its digests fit, and may so have
// wrong bytes served, until the layer is whole: then the diffID tells. What is promised even then is in `judge`.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Span } from '../../src/index/layer-index.ts';
import type { PeelTable } from '../../src/index/peel-table-reader.ts';
import type { PeelWindows } from '../../src/index/peel-windows.ts';
import { readPeelTable } from '../../src/index/peel-table-reader.ts';
import { errorCode } from '../../src/layer/errors.ts';
import type { Layer } from '../../src/layer/layer.ts';
import { setInflateBackend } from '../../src/native/layer-cache.ts';
import { archiveTree } from '../../src/tree/archive-tree.ts';
import { writeErofs } from '../../src/tree/erofs-writer.ts';
import { untilAborted } from '../../src/util/until-aborted.ts';
import { mutate, random, type Random } from '../support/damage.ts';
import { rounds } from '../support/fixtures.ts';
import { keptMemoryDir } from '../support/tmp.ts';
import { pick, sameBytes } from './damaged-layers.ts';
import {
  forgePeel,
  partsOf,
  sealTable,
  spanForgeries,
  treeForgeries,
  windowForgeries,
  writeParts,
} from './forged-peel.ts';
import { makePeelTruths, OfferedNode, type PeelOffer, type PeelTruth } from './peel-truths.ts';

/** Ten thousand at scale 1. */
const times = (count: number): number => rounds(count, 15, 0.015);
/** A round that takes longer hangs. */
const roundMs = 30_000;

const refusals = /^ERR_(INDEX_(FORMAT|LIMIT|VERSION|CHECKSUM)|TREE_\w+|LAYER_INDEX)$/;

const scratch = keptMemoryDir();
let truths: PeelTruth[];
let node: OfferedNode;
beforeAll(async () => {
  truths = await makePeelTruths();
  node = await OfferedNode.open(scratch.path);
});
afterAll(() => {
  node.close();
  scratch[Symbol.dispose]();
});

/** Of the layers that were caught, not each is made anew: it takes longer than all else. */
let madeAnew = 0;

interface Outcome {
  readonly refused: boolean;
  /** Spans that gave other bytes than the layer has there. */
  readonly wrong: number;
  /** Spans that could not be read on their own. */
  readonly unread: number;
  readonly caught: 'diffID' | 'before' | undefined;
}

/** Stream bytes, or the code of why there are none. */
async function readOrCode(layer: Layer, offset: number, length: number): Promise<Buffer | string> {
  try {
    return await layer.read(offset, length);
  } catch (error) {
    const code = errorCode(error) ?? String(error);
    expect(code).toMatch(/^ERR_LAYER_(FETCH|DIGEST)$/);
    return code;
  }
}

/** Opens the layer by what is offered and reads all of it. `isDamage`: the digests are as they were. */
async function judge(truth: PeelTruth, offer: PeelOffer, { isDamage }: { isDamage: boolean }): Promise<Outcome> {
  let layer: Layer;
  try {
    layer = await node.openLayer(truth, offer);
  } catch (error) {
    expect(errorCode(error), String(error)).toBe('ERR_LAYER_INDEX');
    expect(errorCode((error as Error).cause), String((error as Error).cause)).toMatch(refusals);
    return { refused: true, wrong: 0, unread: 0, caught: undefined };
  }
  let outcome: Outcome;
  try {
    if (isDamage) expect(layer.entries()).toEqual(truth.entries);
    const { wrong, unread } = await readSpans(layer, truth, offer, { isDamage });
    if (isDamage) expect(wrong).toBe(0);
    await readFiles(layer, truth, { wrong });
    outcome = { refused: false, wrong, unread, caught: await fill(layer, truth, { unread }) };
    if (wrong > 0) expect(outcome.caught).toBeDefined();
  } finally {
    await layer.close();
  }
  if (outcome.caught !== undefined && madeAnew++ % 8 === 0) await expectMadeAnew(truth, offer);
  await node.forget(truth);
  return outcome;
}

/**
 * Returns how many spans are not the layer's. One that begins where the layer has one, by the same bits and window, is, wherever it is said to
 * end: so what is wrong comes of a place or a window that the index states wrongly.
 */
async function readSpans(
  layer: Layer,
  truth: PeelTruth,
  offer: PeelOffer,
  { isDamage }: { isDamage: boolean },
): Promise<Pick<Outcome, 'wrong' | 'unread'>> {
  const { spans } = layer;
  const { windows } = readPeelTable(offer.table);
  const right = placesOf(truth.read);
  const all = Array.from({ length: spans.count }, (_, i) => spans.span(i));
  const given: (Buffer | string)[] = [];
  // From the last one to the first: one whose predecessor is here takes its window from that.
  for (const [i, { streamStart, streamEnd }] of [...all.entries()].toReversed())
    given[i] = await readOrCode(layer, streamStart, streamEnd - streamStart);
  let wrong = 0;
  let unread = 0;
  for (const [i, bytes] of given.entries()) {
    const span = all[i] as Span;
    if (typeof bytes === 'string') {
      unread++;
      if (isDamage) expect(isFrameAs(offer, truth, i), `span ${i}: ${bytes}`).toBe(false);
      continue;
    }
    expect(bytes.length).toBe(span.streamEnd - span.streamStart);
    if (sameBytes(bytes, truth.tar.subarray(span.streamStart, span.streamEnd))) continue;
    expect(right, `span ${i} began right`).not.toContain(placeOf(span, windows));
    wrong++;
  }
  return { wrong, unread };
}

/** Whether the span's window comes as it is, if it has one. */
function isFrameAs({ given }: PeelOffer, { read, windows }: PeelTruth, span: number): boolean {
  const at = read.windows.offsets[span] as number;
  const end = at + (read.windows.lengths[span] as number);
  return sameBytes((given ?? windows).subarray(at, end), windows.subarray(at, end));
}

function placesOf({ spans, windows }: PeelTable): ReadonlySet<string> {
  return new Set(Array.from({ length: spans.count }, (_, i) => placeOf(spans.span(i), windows)));
}

function placeOf({ index, streamStart, blobStart, bits }: Span, { sha256 }: PeelWindows): string {
  return `${streamStart} ${blobStart} ${bits} ${Buffer.from(sha256.subarray(32 * index, 32 * index + 32)).toString('hex')}`;
}

/** A file's bytes are the stream's where the tree says that they are. */
async function readFiles(layer: Layer, { tar }: PeelTruth, { wrong }: { wrong: number }): Promise<void> {
  for (const { extents } of layer.entries()) {
    for (const { streamOffset, size } of extents) {
      const bytes = await readOrCode(layer, streamOffset, size);
      if (typeof bytes === 'string' || wrong > 0) continue;
      expect(sameBytes(bytes, tar.subarray(streamOffset, streamOffset + size))).toBe(true);
    }
  }
}

/** A layer becomes complete as what it is. Else it is known to be suspect, and by its diffID it is not served any more. */
async function fill(layer: Layer, truth: PeelTruth, { unread }: Pick<Outcome, 'unread'>): Promise<Outcome['caught']> {
  try {
    await layer.fillCache({ signal: AbortSignal.timeout(roundMs) });
  } catch (error) {
    const code = errorCode(error);
    expect(code, String(error)).toMatch(/^ERR_LAYER_(DIGEST|INDEX|SHORT)$/);
    expect(layer.complete).toBe(false);
    expect(node.suspect(truth)).toBeDefined();
    if (code !== 'ERR_LAYER_DIGEST') return 'before';
    expect(node.suspect(truth)).toMatch(/ unpacks to sha256:\w+, but the image config says /);
    expect(layer.present.spans).toBe(0);
    await expect(layer.cache.read(0, 1)).rejects.toThrow();
    expect(await readOrCode(layer, 0, 1)).toBe('ERR_LAYER_DIGEST');
    return 'diffID';
  }
  expect(layer.complete).toBe(true);
  // A span that cannot be read on its own may come with those before it.
  if (unread === 0) expect(node.suspect(truth)).toBeUndefined();
  expect(sameBytes(await layer.read(0, layer.streamSize), truth.tar)).toBe(true);
  return undefined;
}

/** Nobody trusts an index of the layer any more. */
async function expectMadeAnew(truth: PeelTruth, offer: PeelOffer): Promise<void> {
  const layer = await node.openLayer(truth, offer);
  try {
    expect(layer.row.indexFormat).toBe('node');
    expect(layer.complete).toBe(true);
    expect(sameBytes(await layer.read(0, layer.streamSize), truth.tar)).toBe(true);
  } finally {
    await layer.close();
  }
}

type Make = (truth: PeelTruth, seed: number, below: Random) => PeelOffer;

interface Tally {
  refused: number;
  right: number;
  caught: number;
  byDiffId: number;
  wrong: number;
  unread: number;
}

/** `which`: the layers that it makes sense for. */
async function manyRounds(which: readonly number[], count: number, make: Make, isDamage: boolean): Promise<Tally> {
  const tally = { refused: 0, right: 0, caught: 0, byDiffId: 0, wrong: 0, unread: 0 };
  for (let seed = 0; seed < count; seed++) {
    setInflateBackend(seed % 4 < 2 ? 'isal' : 'zlib');
    const below = random(seed + 1_000_000);
    const truth = truths[pick(which, below)] as PeelTruth;
    try {
      const work = judge(truth, make(truth, seed, below), { isDamage });
      const { refused, wrong, unread, caught } = await untilAborted(work, AbortSignal.timeout(roundMs));
      if (refused) tally.refused++;
      else if (caught === undefined) tally.right++;
      else tally.caught++;
      if (caught === 'diffID') tally.byDiffId++;
      if (wrong > 0) tally.wrong++;
      if (unread > 0) tally.unread++;
    } catch (cause) {
      throw new Error(`${truth.name}, round ${seed}: ${cause instanceof Error ? cause.message : String(cause)}`, {
        cause,
      });
    }
  }
  return tally;
}

const all = [0, 0, 0, 1, 1, 2, 2, 3];
const withWindows = [0, 0, 1];

describe('a peel index', () => {
  it('as it is gives every span and file', async () => {
    for (const truth of truths) {
      for (const offer of [truth, writeParts(truth, partsOf(truth))]) {
        const outcome = await judge(truth, offer, { isDamage: true });
        expect(outcome, truth.name).toEqual({ refused: false, wrong: 0, unread: 0, caught: undefined });
      }
    }
    expect(truths.map(({ windows }) => windows.length > 0)).toEqual([true, true, false, false]);
  });
});

describe('damage', () => {
  it('to a table is refused', async () => {
    const count = times(3000);
    const make: Make = (truth, seed) => ({ ...truth, table: mutate(truth.table, seed, 400) });
    const { refused, right } = await manyRounds(all, count, make, true);
    expect(refused).toBeGreaterThan(0.9 * count);
    expect(refused + right).toBe(count);
  }, 1_200_000);

  it('to windows that come is refused with the spans that need them', async () => {
    const count = times(1500);
    const make: Make = (truth, seed) => ({ ...truth, given: mutate(truth.windows, seed, 2000) });
    const { refused, unread } = await manyRounds(withWindows, count, make, true);
    expect(refused).toBe(0);
    expect(unread).toBeGreaterThan(count / 2);
  }, 1_200_000);

  it('to windows that the node has does no harm', async () => {
    const count = times(500);
    const make: Make = (truth, seed) => ({ ...truth, held: mutate(truth.windows, seed, 2000) });
    const { right } = await manyRounds(withWindows, count, make, true);
    expect(right).toBe(count);
  }, 1_200_000);
});

describe('a forgery', () => {
  it.each<[string, readonly number[], number, readonly (keyof Tally)[], Make]>([
    [
      'of any bytes of a table',
      all,
      1500,
      ['refused', 'caught'],
      (truth, seed) => ({ ...truth, table: sealTable(mutate(truth.table, seed, 400)) }),
    ],
    [
      'of spans',
      all,
      1500,
      ['refused', 'right', 'caught'],
      (truth, _, below) => forgePeel(truth, spanForgeries, below),
    ],
    [
      'of windows',
      withWindows,
      1250,
      ['caught', 'byDiffId', 'wrong'],
      (truth, _, below) => forgePeel(truth, windowForgeries, below),
    ],
    ['of trees', all, 750, ['refused', 'right'], (truth, _, below) => forgePeel(truth, treeForgeries, below)],
  ])(
    '%s is refused, right, or caught when the layer is whole',
    async (_, which, count, happens, make) => {
      const tally = await manyRounds(which, times(count), make, false);
      for (const outcome of happens) expect(tally[outcome], outcome).toBeGreaterThan(0);
    },
    1_200_000,
  );

  it('of windows gives wrong bytes by design, until the layer is whole', async () => {
    const truth = truths[0] as PeelTruth;
    const parts = partsOf(truth);
    const framed = parts.spans.filter(({ frame }) => frame !== undefined);
    const frames = framed.map(({ frame }) => frame);
    for (const [i, span] of framed.entries()) span.frame = frames.at(i - 1);
    const offer = writeParts(truth, parts);
    const layer = await node.openLayer(truth, offer);
    try {
      const { wrong, unread } = await readSpans(layer, truth, offer, { isDamage: false });
      expect(wrong).toBeGreaterThan(framed.length / 2);
      expect(await fill(layer, truth, { unread })).toBe('diffID');
    } finally {
      await layer.close();
    }
    await expectMadeAnew(truth, offer);
    await node.forget(truth);
  });

  it('of a tree stays, also when the layer is whole: nothing but the index says what files are called', async () => {
    const truth = truths[3] as PeelTruth;
    const { streamSize } = truth.read.spans;
    const setuid = truth.entries.map((entry) => (entry.path === 'etc/more' ? { ...entry, mode: 0o4777 } : entry));
    const parts = { ...partsOf(truth), tree: Buffer.from(writeErofs(archiveTree(setuid, { streamSize }))) };
    const layer = await node.openLayer(truth, writeParts(truth, parts));
    try {
      expect(await fill(layer, truth, { unread: 0 })).toBeUndefined();
      expect(layer.entries()).toEqual(setuid);
    } finally {
      await layer.close();
    }
    await node.forget(truth);
  });
});
