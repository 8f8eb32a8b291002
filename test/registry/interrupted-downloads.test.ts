// Blobs whose transfer breaks anywhere arrive whole and right, or not at all.
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { DirRegistry } from '../../src/registry/dir-registry.ts';
import { RemoteRegistry } from '../../src/registry/remote-registry.ts';
import { serveRegistry } from '../../src/registry/serve-registry.ts';
import type { RegistryServer } from '../../src/registry/serve-registry.ts';
import { answer, ignoreRange } from '../support/faults.ts';
import { content, push, readAll } from '../support/registry-content.ts';
import { RegistryFront } from '../support/registry-front.ts';
import type { Fault } from '../support/registry-front.ts';
import { keptTempDir } from '../support/tmp.ts';

const blob = content(3_200_000);
const { digest, size } = blob.descriptor;
const part = size / 16;
const dir = keptTempDir();
const registries: RemoteRegistry[] = [];
let server: RegistryServer;
let front: RegistryFront;

beforeAll(async () => {
  const store = new DirRegistry(dir.path);
  await push(store, 'a/b', blob);
  server = await serveRegistry(store);
});
afterAll(async () => {
  await server.close();
  dir[Symbol.dispose]();
});

async function pull(fault: Fault): Promise<Buffer> {
  front = await RegistryFront.start(server.host);
  front.interfere(({ method }) => method === 'GET', fault);
  const registry = new RemoteRegistry({ host: front.host, timer: { random: () => 0, sleep: async () => {} } });
  registries.push(registry);
  return readAll(await registry.getBlob('a/b', digest));
}
afterEach(async () => {
  for (const registry of registries.splice(0)) await registry.close();
  await front.close();
});

const startOf = (range: string | undefined) => Number(/^bytes=(\d+)-/.exec(range ?? '')?.[1] ?? 0);

/** Each answer ends at the next of `places` (offsets in the blob); the last one is whole. Ranges are answered unless `whole`. */
function breakingAt(places: readonly number[], options: { whole?: boolean; bytes?: Buffer } = {}): Fault {
  const left = [...places];
  const { whole = false, bytes = blob.bytes } = options;
  return (request, response) => {
    const start = whole ? 0 : startOf(request.headers.range);
    response.writeHead(start === 0 ? 200 : 206, {
      'content-length': bytes.length - start,
      ...(start === 0 ? {} : { 'content-range': `bytes ${start}-${bytes.length - 1}/${bytes.length}` }),
    });
    const end = left.shift();
    if (end === undefined) response.end(bytes.subarray(start));
    else response.write(bytes.subarray(start, end), () => response.destroy());
  };
}

/** The first answer is the one, every later answer the other. */
function firstThen(first: Fault, later: Fault): Fault {
  let requests = 0;
  return (...exchange) => {
    (requests++ === 0 ? first : later)(...exchange);
  };
}

describe('a blob', () => {
  const sixteenths = [...Array(16).keys()];

  it.each(sixteenths)('that breaks after %s sixteenths is continued there', async (n) => {
    expect((await pull(breakingAt([n * part]))).equals(blob.bytes)).toBe(true);
    expect(front.requests).toHaveLength(2);
    const again = startOf(front.requests[1]?.range);
    expect(again).toBeLessThanOrEqual(n * part);
  });

  it('that breaks at every sixteenth is continued each time', async () => {
    expect((await pull(breakingAt(sixteenths.map((n) => n * part)))).equals(blob.bytes)).toBe(true);
    expect(front.requests).toHaveLength(17);
  });

  it('that breaks near its end is whole, wherever that is', async () => {
    for (const end of [size - 2, size - 1]) {
      expect((await pull(breakingAt([end]))).equals(blob.bytes)).toBe(true);
      await front.close();
    }
  });

  it('of a registry without ranges is read again from the start', async () => {
    const places = [5 * part, 10 * part, 15 * part];
    expect((await pull(breakingAt(places, { whole: true }))).equals(blob.bytes)).toBe(true);
    expect(front.requests).toHaveLength(4);
  });

  it('that makes no progress worth a connection is given up', async () => {
    const crumbs: Fault = (request, ...rest) => {
      breakingAt([startOf(request.headers.range) + 10])(request, ...rest);
    };
    await expect(pull(crumbs)).rejects.toMatchObject({ code: 'TRUNCATED' });
    expect(front.requests).toHaveLength(5);
  });

  it('that has another size when it is continued is refused', async () => {
    const longer = Buffer.concat([blob.bytes, Buffer.alloc(1)]);
    for (const whole of [false, true]) {
      const fault = firstThen(breakingAt([part]), breakingAt([], { bytes: longer, whole }));
      await expect(pull(fault)).rejects.toMatchObject({ code: 'RESPONSE_INVALID' });
      await front.close();
    }
  });

  it('whose rest is not what it was is not taken for it', async () => {
    const other = Buffer.from(blob.bytes);
    other[size - 5] = (other[size - 5] ?? 0) ^ 1;
    for (const whole of [false, true]) {
      const fault = firstThen(breakingAt([part]), breakingAt([], { bytes: other, whole }));
      await expect(pull(fault)).rejects.toMatchObject({ code: 'DIGEST_INVALID' });
      await front.close();
    }
  });

  it('that is gone when it is continued says so', async () => {
    await expect(pull(firstThen(breakingAt([part]), answer(404)))).rejects.toMatchObject({ code: 'BLOB_UNKNOWN' });
  });
});

describe('a range', () => {
  it('near the start of a registry without ranges is continued by reading what was read again', async () => {
    front = await RegistryFront.start(server.host);
    let requests = 0;
    const first = breakingAt([20_000, 1_400_000], { whole: true });
    front.interfere(
      ({ method }) => method === 'GET',
      (...exchange) => (requests++ < 2 ? first : ignoreRange)(...exchange),
    );
    const registry = new RemoteRegistry({ host: front.host, timer: { random: () => 0, sleep: async () => {} } });
    registries.push(registry);
    const bytes = await readAll(await registry.getBlobRange('a/b', digest, 10_000, 2_000_000));
    expect(bytes.equals(blob.bytes.subarray(10_000, 2_000_000))).toBe(true);
    expect(requests).toBe(3);
  });
});
