// An unpacker in a process of its own, to be killed: `node unpack-process.mjs REQUEST`, with the request as JSON. It says `working` when it
// begins and `done` when trees are in their places, and goes on with what is left to be done for them.
import { renameSync, writeSync } from 'node:fs';
import { configSchema } from '../../dist/config/schema.js';
import { openNode } from '../../dist/daemon/node.js';
import { openUnpacker } from '../../dist/daemon/unpacking.js';
import { sourceOf } from '../../dist/image/origin-blob.js';
import { silentLog } from '../../dist/observe/log.js';
import { parseReference } from '../../dist/oci/reference.js';

const { root, reference, layers, way, dir, unpack, download } = JSON.parse(process.argv[2]);
const say = (line) => writeSync(1, `${line}\n`);
const { signal } = new AbortController();
const node = await openNode({ root, logLevel: 'silent' });
const defaults = configSchema.parse({});
const config = {
  ...defaults,
  unpack: { ...defaults.unpack, reserve: 0, ...unpack },
  download: { ...defaults.download, ...download },
};
const unpacker = await openUnpacker({ node, config: () => config, log: silentLog() });
const origin = await node.imageDeps.openOrigin(parseReference(reference));
const wanted = layers.map((layer) => ({ ...layer, source: sourceOf(origin, layer.descriptor) }));

say('working');
if (way === 'image') {
  await unpacker.unpackImage({ image: reference, layers: wanted, dir, ownership: 'entries' }, { signal });
} else {
  const requests = wanted.map((layer) => ({ ...layer, image: reference, form: 'overlay' }));
  const trees = await Promise.all(requests.map((request) => unpacker.unpackLayer(request, { signal })));
  trees.forEach((tree, i) => tree.claim((from) => renameSync(from, `${dir}-${i}`)));
}
say('done');
await unpacker.idle();
say('idle');
setInterval(() => {}, 1_000_000);
