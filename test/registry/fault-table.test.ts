// Every call of the client against everything a registry may do wrong: it ends with what was asked for or with a fitting error, within
// its own limits, and leaves nothing behind.
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Descriptor } from '../../src/oci/descriptor.ts';
import { DirRegistry } from '../../src/registry/dir-registry.ts';
import { RegistryError, hasCode } from '../../src/registry/errors.ts';
import { RemoteRegistry } from '../../src/registry/remote-registry.ts';
import { serveRegistry } from '../../src/registry/serve-registry.ts';
import type { RegistryServer } from '../../src/registry/serve-registry.ts';
import { faultKinds } from '../support/fault-kinds.ts';
import type { FaultKind } from '../support/fault-kinds.ts';
import { isFullScale } from '../support/fixtures.ts';
import { content, listAll, push, pushImage, readAll, streamOf } from '../support/registry-content.ts';
import type { Content } from '../support/registry-content.ts';
import { RegistryFront } from '../support/registry-front.ts';
import { keptMemoryDir } from '../support/tmp.ts';

const blob = content(300_000);
const { digest } = blob.descriptor;
const dir = keptMemoryDir();
/** What is only read, so that it stays as it is. */
const library = new DirRegistry(`${dir.path}/library`);
/** What the calls change. */
const store = new DirRegistry(`${dir.path}/store`);
/** With the referrers API and without, in pages of two. */
const servers = new Map<string, RegistryServer>();
let image: { readonly manifest: Content; readonly config: Content; readonly layer: Content };
let referrer: { readonly manifest: Content };

beforeAll(async () => {
  for (const [name, registry] of Object.entries({ library, store })) {
    servers.set(name, await serveRegistry(registry, { maxPageSize: 2 }));
    servers.set(`${name} without api`, await serveRegistry(registry, { maxPageSize: 2, referrersApi: false }));
  }
  image = await pushImage(library, 'a/b', 'v1');
  for (const registry of [library, store]) {
    for (const item of [blob, image.config, image.layer]) await push(registry, 'a/b', item);
  }
  for (const tag of ['v2', 'v3', 'v4']) {
    await library.pushManifest('a/b', tag, image.manifest.bytes, image.manifest.descriptor.mediaType);
  }
  await push(library, 'a/c', blob);
  // Through a registry without the API, so that the tag that stands in for it is there too.
  const direct = new RemoteRegistry({ host: servers.get('library without api')?.host ?? '' });
  referrer = await pushImage(direct, 'a/r', undefined, { subject: image.manifest.descriptor, artifactType: 'a/x' });
  await direct.close();
});
afterAll(async () => {
  for (const server of servers.values()) await server.close();
  dir[Symbol.dispose]();
});

/** One method of the client, and what tells that it did what it should. */
interface Call {
  readonly name: string;
  /** Reads the body of an answer: a blob, a range of one, a manifest or a list. */
  readonly reads?: 'blob' | 'range' | 'manifest' | 'list';
  readonly withoutApi?: boolean;
  readonly writes?: boolean;
  /** Runs before anything goes wrong; what it returns is run when it does and gives what is compared with `expected`. */
  readonly arrange: (registry: RemoteRegistry, repository: string) => Promise<() => Promise<unknown>>;
  readonly expected: () => unknown;
}

const call = (
  name: string,
  work: (registry: RemoteRegistry) => Promise<unknown>,
  expected: () => unknown,
  more: Partial<Call> = {},
): Call => ({ name, arrange: async (registry) => () => work(registry), expected, ...more });

const small = content(60_000);
const stored = async (repository: string, what: Content) =>
  readAll(await store.getBlob(repository, what.descriptor.digest)).then((bytes) => bytes.equals(what.bytes));
const manifestWith = (changes: Record<string, unknown>) => {
  const document = { ...(JSON.parse(image.manifest.bytes.toString()) as object), ...changes };
  return content(JSON.stringify(document), image.manifest.descriptor.mediaType);
};
const absent = async (found: Promise<unknown>) =>
  found.then(
    () => false,
    (error: unknown) => error instanceof RegistryError && error.code.endsWith('_UNKNOWN'),
  );

const calls: readonly Call[] = [
  call(
    'ping',
    async (r) => (await r.ping(), true),
    () => true,
  ),
  call(
    'getBlob',
    async (r) => (await readAll(await r.getBlob('a/b', digest))).equals(blob.bytes),
    () => true,
    { reads: 'blob' },
  ),
  call(
    'getBlobRange',
    async (r) =>
      (await readAll(await r.getBlobRange('a/b', digest, 100_000, 250_000))).equals(
        blob.bytes.subarray(100_000, 250_000),
      ),
    () => true,
    { reads: 'range' },
  ),
  call(
    'getManifest',
    (r) => r.getManifest('a/b', image.manifest.descriptor.digest),
    () => image.manifest,
    { reads: 'manifest' },
  ),
  call(
    'getTag',
    (r) => r.getTag('a/b', 'v1'),
    () => image.manifest,
    { reads: 'manifest' },
  ),
  call(
    'resolveBlob',
    (r) => r.resolveBlob('a/b', digest),
    () => blob.descriptor,
  ),
  call(
    'resolveManifest',
    (r) => r.resolveManifest('a/b', image.manifest.descriptor.digest),
    () => image.manifest.descriptor,
  ),
  call(
    'resolveTag',
    (r) => r.resolveTag('a/b', 'v1'),
    () => image.manifest.descriptor,
  ),
  call(
    'tags',
    (r) => listAll(r.tags('a/b')),
    () => ['v1', 'v2', 'v3', 'v4'],
    { reads: 'list' },
  ),
  call(
    'repositories',
    async (r) => listAll(r.repositories()),
    () => ['a/b', 'a/c', 'a/r'],
    { reads: 'list' },
  ),
  call(
    'referrers',
    (r) => listAll(r.referrers('a/r', image.manifest.descriptor.digest)),
    () => [expect.objectContaining({ digest: referrer.manifest.descriptor.digest })],
    { reads: 'list' },
  ),
  call(
    'referrers without the api',
    (r) => listAll(r.referrers('a/r', image.manifest.descriptor.digest)),
    () => [expect.objectContaining({ digest: referrer.manifest.descriptor.digest })],
    { reads: 'list', withoutApi: true },
  ),
  {
    name: 'pushBlob',
    writes: true,
    arrange: async (registry, repository) => async () => {
      await registry.pushBlob(repository, small.descriptor, () => streamOf(small.bytes, 7_001));
      return stored(repository, small);
    },
    expected: () => true,
  },
  {
    name: 'pushBlobChunked',
    writes: true,
    arrange: async (registry, repository) => async () => (await registry.pushBlobChunked(repository, 1)).size,
    expected: () => 0,
  },
  ...['write', 'close'].map(
    (name): Call => ({
      name: `${name} of an upload`,
      writes: true,
      arrange: async (registry, repository) => {
        const writer = await registry.pushBlobChunked(repository, name === 'write' ? 50_000 : 100_000);
        const work = () => writer.write(small.bytes).then(() => (name === 'close' ? writer.close() : undefined));
        return () => work().then(() => storedSize(repository, writer.id));
      },
      expected: () => 60_000,
    }),
  ),
  {
    name: 'commit of an upload',
    writes: true,
    arrange: async (registry, repository) => {
      const writer = await registry.pushBlobChunked(repository, 40_000);
      await writer.write(small.bytes.subarray(0, 41_000));
      await writer.write(small.bytes.subarray(41_000));
      return async () => (await writer.commit(small.descriptor.digest), stored(repository, small));
    },
    expected: () => true,
  },
  {
    name: 'resumeBlob',
    writes: true,
    arrange: async (registry, repository) => {
      const writer = await registry.pushBlobChunked(repository, 1);
      await writer.write(small.bytes);
      return async () => (await registry.resumeBlob(repository, writer.id, undefined)).size;
    },
    expected: () => 60_000,
  },
  {
    name: 'mountBlob',
    writes: true,
    arrange: async (registry, repository) => () => registry.mountBlob('a/b', repository, digest),
    expected: () => blob.descriptor,
  },
  {
    name: 'pushManifest',
    writes: true,
    arrange: async (registry) => async () => {
      const { bytes, descriptor } = manifestWith({ annotations: { n: randomBytes(8).toString('hex') } });
      await registry.pushManifest('a/b', undefined, bytes, descriptor.mediaType);
      return (await store.getManifest('a/b', descriptor.digest)).bytes.toString() === bytes.toString();
    },
    expected: () => true,
  },
  {
    name: 'pushManifest with a subject without the api',
    writes: true,
    withoutApi: true,
    arrange: async (registry) => {
      const subject = content(randomBytes(8), 'a/b').descriptor;
      return async () => {
        const { bytes, descriptor } = manifestWith({ subject });
        await registry.pushManifest('a/b', undefined, bytes, descriptor.mediaType);
        const { bytes: list } = await store.getTag('a/b', subject.digest.replace(':', '-'));
        const { manifests } = JSON.parse(Buffer.from(list).toString()) as { manifests: Descriptor[] };
        return manifests.map((item) => item.digest === descriptor.digest);
      };
    },
    expected: () => [true],
  },
  {
    name: 'deleteBlob',
    writes: true,
    arrange: async (registry, repository) => {
      await push(store, repository, small);
      return async () => {
        await registry.deleteBlob(repository, small.descriptor.digest);
        return absent(store.resolveBlob(repository, small.descriptor.digest));
      };
    },
    expected: () => true,
  },
  {
    name: 'deleteManifest',
    writes: true,
    reads: 'manifest',
    arrange: async (registry) => {
      const { bytes, descriptor } = manifestWith({ annotations: { n: randomBytes(8).toString('hex') } });
      await store.pushManifest('a/b', undefined, bytes, descriptor.mediaType);
      return async () => {
        await registry.deleteManifest('a/b', descriptor.digest);
        return absent(store.resolveManifest('a/b', descriptor.digest));
      };
    },
    expected: () => true,
  },
  {
    name: 'deleteTag',
    writes: true,
    arrange: async (registry) => {
      const tag = `z${randomBytes(8).toString('hex')}`;
      await store.pushManifest('a/t', tag, Buffer.from('{"schemaVersion":2,"manifests":[]}'), indexType);
      return async () => (await registry.deleteTag('a/t', tag), absent(store.resolveTag('a/t', tag)));
    },
    expected: () => true,
  },
];
const indexType = 'application/vnd.oci.image.index.v1+json';

async function storedSize(repository: string, url: string): Promise<number> {
  const id = Buffer.from(url.slice(url.lastIndexOf('/') + 1), 'base64url').toString();
  const upload = await store.resumeBlob(repository, id, undefined);
  await upload.close();
  return upload.size;
}

interface Outcome {
  readonly value: unknown;
  readonly error: unknown;
  readonly requests: number;
  readonly bytesOut: number;
}

/** Runs `one` while the requests that `hit` picks by their number meet `kind`. */
async function meet(one: Call, kind: FaultKind | undefined, hit: (request: number) => boolean): Promise<Outcome> {
  const server = `${one.writes === true ? 'store' : 'library'}${one.withoutApi === true ? ' without api' : ''}`;
  const front = await RegistryFront.start(servers.get(server)?.host);
  const limit = kind?.slow === true ? 800 : 20_000;
  const registry = new RemoteRegistry({
    host: front.host,
    backoff: { attempts: 3, baseMs: 1, maxMs: 1, maxRetryAfterMs: 1_000 },
    timer: { random: () => 0, sleep: async () => {} },
    http: { headersTimeoutMs: limit, bodyTimeoutMs: limit, connectTimeoutMs: 20_000 },
  });
  try {
    const repository = `w/${randomBytes(8).toString('hex')}`;
    const work = await one.arrange(registry, repository);
    front.forget();
    const before = front.bytesOut;
    const fault = kind?.make();
    front.interfere(
      ({ url }) => url?.startsWith('/token') === true,
      (_, response) => void response.end('{"token":"t"}'),
    );
    const counted = () => front.requests.filter(({ path }) => !path.startsWith('/token')).length;
    if (fault !== undefined) {
      front.interfere(({ url }) => url?.startsWith('/token') !== true && hit(counted() - 1), fault);
    }
    const [value, error] = await work().then(
      (result) => [result, undefined] as const,
      (reason: unknown) => [undefined, reason] as const,
    );
    await registry.close();
    while (front.connections > 0) await delay(2);
    return { value, error, requests: counted(), bytesOut: front.bytesOut - before };
  } finally {
    await registry.close();
    await front.close();
  }
}

/** Where a client has nothing to check an answer against. */
function unverifiable(one: Call, kind: FaultKind): boolean {
  if (kind.lies === true) return one.writes === true || one.reads === 'range' || one.name.startsWith('resolve');
  if (kind.name === 'changes a byte') return one.reads === 'range' || one.reads === 'list';
  return kind.name === 'says another digest' && one.name === 'resolveTag';
}

/** A blob may have any size: whoever reads it decides how much is enough. */
const neverEnds = (one: Call, kind: FaultKind) => one.reads === 'blob' && kind.name === 'sends a body of 10 GB';

function judge(one: Call, kind: FaultKind, outcome: Outcome): void {
  if (outcome.error !== undefined) {
    expect(outcome.error).toBeInstanceOf(RegistryError);
    if (unverifiable(one, kind)) return;
    expect(kind.codes).toContain((outcome.error as RegistryError).code);
  } else if (!unverifiable(one, kind)) {
    expect(outcome.value).toMatchObject(one.expected() as object);
  }
  // The largest thing that is read into memory is a page of a list; the rest lies in the buffers of sockets.
  expect(outcome.bytesOut).toBeLessThan(40 * 1024 * 1024);
}

const requestsOf = new Map<Call, number>();
beforeAll(async () => {
  for (const one of calls) requestsOf.set(one, (await meet(one, undefined, () => false)).requests);
});

/** One request of the call meets it; the others do not. */
async function meetOnce(one: Call, kind: FaultKind, at: number): Promise<void> {
  const outcome = await meet(one, kind, (request) => request === at);
  // What was deleted in an attempt whose answer was lost is not there in the next.
  const gone = one.name.startsWith('delete') && hasCode(outcome.error, 'BLOB_UNKNOWN', 'MANIFEST_UNKNOWN');
  if (gone) return;
  if (kind.passes) expect(outcome.error, `request ${at}`).toBeUndefined();
  judge(one, kind, outcome);
}

async function meetAlways(one: Call, kind: FaultKind): Promise<void> {
  const outcome = await meet(one, kind, () => true);
  judge(one, kind, outcome);
  const bites =
    kind.spoils === 'all' ||
    (kind.spoils === 'bodies' && one.reads !== undefined && !(kind.lies === true && one.reads === 'range')) ||
    (kind.spoils === 'ranges' && one.reads === 'range');
  if (bites) expect(outcome.error).toBeInstanceOf(RegistryError);
}

/** The numbers of its requests; the first is left out where `meetAlways` goes no further either. */
const turns = (one: Call, kind: FaultKind) =>
  [...Array(requestsOf.get(one) ?? 0).keys()].filter((at) => kind.passes || at > 0);

/** Every call meets every third fault, every fault every third call; with PEEL_TEST_SCALE=1 all meet all. */
const meets = (one: Call, kind: FaultKind) =>
  !neverEnds(one, kind) && (isFullScale() || (calls.indexOf(one) + faultKinds.indexOf(kind)) % 3 === 0);

describe.each(faultKinds.filter(({ slow }) => slow !== true))('a registry that $name', (kind) => {
  it.each(calls.filter((one) => meets(one, kind)))('harms $name no further', async (one) => {
    for (const at of turns(one, kind)) await meetOnce(one, kind, at);
    await meetAlways(one, kind);
  });
});

describe.each(faultKinds.filter(({ slow }) => slow === true))('a registry that $name', (kind) => {
  // All at once, because each waits for the client to lose its patience.
  it('keeps no call waiting once', async () => {
    await Promise.all(calls.flatMap((one) => turns(one, kind).map((at) => meetOnce(one, kind, at))));
  });
  it('keeps no call waiting for ever', async () => {
    await Promise.all(calls.map((one) => meetAlways(one, kind)));
  });
});
