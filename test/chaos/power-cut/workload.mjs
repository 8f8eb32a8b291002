// What is recorded: a cache whose spans come, are synced and evicted, one that is taken over whole, and a database and content beside them.
// argv: root, run directory, seed, steps. What was promised is said in `<root>/acks`, one line of JSON each, after the promise was given.
import { createHash } from 'node:crypto';
import { openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { LayerCache } from '../../../dist/native/layer-cache.js';
import { ContentStore } from '../../../dist/image/content-store.js';
import { openState } from '../../../dist/state/state.js';
import { bytesOf, cacheOptions, random, spans, spanSize } from './world.mjs';

const [root, runDir, seed, steps] = process.argv.slice(2);
const below = random(Number(seed));
const acks = openSync(join(root, 'acks'), 'a');
const ack = (what) => writeSync(acks, `${JSON.stringify(what)}\n`);

const state = openState(root);
const content = new ContentStore(root);
const cache = LayerCache.open(cacheOptions(root, runDir, 'a'));
const bytes = bytesOf('a');

async function bring(span) {
  const data = bytes.subarray(span * spanSize, (span + 1) * spanSize);
  const raw = { decoder: 'stored', bits: 0, window: undefined, sha256: undefined, openEnded: false };
  await cache.decode({ span, data, ...raw });
}

const present = () => Array.from({ length: spans }, (_, span) => span).filter((span) => cache.isPresent(span));
const some = (of, most) => Array.from({ length: 1 + below(most) }, () => of[below(of.length)] ?? 0);

async function step(number) {
  const kind = below(10);
  if (kind < 4) for (const span of some([...Array(spans).keys()], 4)) await bring(span);
  else if (kind < 6) {
    const held = present();
    await cache.sync();
    ack({ synced: held });
  } else if (kind === 6) {
    const going = Uint32Array.from(new Set(some([...Array(spans).keys()], 6)));
    ack({ evicting: [...going] });
    await cache.evict(going);
  } else if (kind === 7) {
    state.snapshots.insert({ key: `key-${number}`, kind: 'active', labels: { number: String(number) } });
    ack({ row: `key-${number}` });
  } else if (kind === 8) {
    const blob = Buffer.from(`content ${number} `.repeat(1 + below(900)));
    const digest = `sha256:${createHash('sha256').update(blob).digest('hex')}`;
    await content.put({ digest }, blob);
    ack({ content: digest });
  } else {
    // Not promised: it may be lost, as a whole.
    state.layerSources.put([`sha256:${createHash('sha256').update(String(number)).digest('hex')}`], `host/app:${number}`);
  }
}

for (let number = 0; number < Number(steps); number += 1) {
  await step(number);
  if (number === Math.floor(Number(steps) / 2)) {
    const options = cacheOptions(root, runDir, 'b');
    const stream = join(root, 'stream');
    writeFileSync(stream, bytesOf('b'));
    await LayerCache.adopt(options, stream, { complete: true });
    ack({ adopted: true });
  }
}
for (let span = 0; span < spans; span += 1) await bring(span);
await cache.markComplete();
ack({ complete: true });
await cache.close();
state.close();
