// Reads ranges of a blob through our client and drops them: HOST REPOSITORY DIGEST IN_FLIGHT RANGE... (START-END, half open).
// Prints the seconds it took.
import { RemoteRegistry } from '../../dist/registry/registry.js';

const [host, repository, digest, inFlight, ...ranges] = process.argv.slice(2);
const registry = new RemoteRegistry({ host });
const left = ranges.values();

async function worker() {
  for (const range of left) {
    const [start, end] = range.split('-').map(Number);
    const { body } = await registry.getBlobRange(repository, digest, start, end);
    let bytes = 0;
    for await (const chunk of body) bytes += chunk.byteLength;
    if (bytes !== end - start) throw new Error(`${bytes} bytes of ${range}`);
  }
}

const before = performance.now();
await Promise.all(Array.from({ length: Number(inFlight) }, worker));
process.stdout.write(`${(performance.now() - before) / 1000}\n`);
await registry.close();
