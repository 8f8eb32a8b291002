import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { Readable } from 'node:stream';
import { setImmediate, setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { MemoryRegistry, RegistryError, funcs, unify } from '../../src/registry/registry.ts';
import type { BlobReader, CallOptions, Registry } from '../../src/registry/registry.ts';
import { Deferred } from '../../src/util/deferred.ts';
import { content, listAll, push, pushImage, readAll } from '../support/registry-content.ts';
import { outage, twoRegistries } from '../support/two-registries.ts';

function code(wanted: string, message = ''): unknown {
  return expect.objectContaining({
    name: 'RegistryError',
    code: wanted,
    message: expect.stringContaining(message),
  });
}

describe('writing to two registries', () => {
  it('writes everything to both', async () => {
    const { first, second, both } = twoRegistries();
    const { manifest, layer } = await pushImage(both, 'a', 'v1');
    await both.mountBlob('a', 'b', layer.descriptor.digest);
    for (const side of [first, second]) {
      expect(await side.resolveTag('a', 'v1')).toEqual(manifest.descriptor);
      expect(await readAll(await side.getBlob('b', layer.descriptor.digest))).toEqual(layer.bytes);
    }
  });

  it('opens a body once for each side', async () => {
    const { both } = twoRegistries();
    const blob = content(100_000);
    let opened = 0;
    await both.pushBlob('a', blob.descriptor, () => {
      opened += 1;
      return Readable.from([blob.bytes], { objectMode: false });
    });
    expect(opened).toBe(2);
  });

  it.each(['first', 'second'])('fails when the %s fails, says so, and ends the other transfer', async (failing) => {
    const { root, first, second } = twoRegistries();
    const streams: Readable[] = [];
    // It fails when the other side's transfer has begun.
    const refusing = funcs({
      pushBlob: async () => {
        while (streams.length === 0) await setImmediate();
        throw new RegistryError('UNSUPPORTED', 'not here');
      },
    });
    const both = failing === 'first' ? unify(refusing, second) : unify(first, refusing);
    const blob = content(100_000);
    // Never ends: only being destroyed ends a transfer of it.
    const stalling = () => {
      const stream = new Readable({ read() {} });
      stream.push(blob.bytes.subarray(0, 1_000));
      streams.push(stream);
      return stream;
    };
    await expect(both.pushBlob('a', blob.descriptor, stalling)).rejects.toEqual(
      code('UNSUPPORTED', `in the ${failing} of two registries: `),
    );
    expect(streams.map(({ destroyed }) => destroyed)).toEqual([true]);
    expect(readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((f) => /_uploads\/./.test(f))).toEqual([]);
    await expect(both.pushManifest('a', 'x', Buffer.from('{}'), 'a/b')).rejects.toEqual(code('UNSUPPORTED', failing));
    await expect(both.pushBlobChunked('a', undefined)).rejects.toEqual(code('UNSUPPORTED', failing));
    expect(readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((f) => /_uploads\/./.test(f))).toEqual([]);
  });

  it('tells the error of the caller from that of a side, and hides what a side says of its machine', async () => {
    const { first, both } = twoRegistries();
    const blob = content(100);
    const fire = new Error('the disk is on fire');
    const broken = () => new Readable({ read() {} }).destroy(fire);
    await expect(both.pushBlob('a', blob.descriptor, broken)).rejects.toBe(fire);
    const full = funcs({ pushBlob: async () => await Promise.reject(new Error('ENOSPC: /srv/secret')) });
    await expect(push(unify(first, full), 'a', blob)).rejects.toMatchObject({
      code: 'UNKNOWN',
      message: 'the second of two registries failed',
      cause: { message: 'ENOSPC: /srv/secret' },
    });
  });

  it('stops for the caller', async () => {
    const { both } = twoRegistries();
    const stopping = new AbortController();
    const stalling = () => new Readable({ read: () => stopping.abort(new Error('enough')) });
    await expect(both.pushBlob('a', content(100).descriptor, stalling, { signal: stopping.signal })).rejects.toThrow(
      'enough',
    );
  });

  it('can be done again when it succeeded on one side', async () => {
    const { first, second, both } = twoRegistries();
    await expect(pushImage(unify(first, outage(second)), 'a', 'v1')).rejects.toEqual(code('UNAVAILABLE', 'second'));
    const { manifest, layer, config } = await pushImage(first, 'a', 'v1');
    for (const blob of [layer, config]) await push(both, 'a', blob);
    await both.pushManifest('a', 'v1', manifest.bytes, mediaTypes.imageManifest);
    expect(await second.resolveTag('a', 'v1')).toEqual(manifest.descriptor);
  });
});

describe.each(['sequential', 'concurrent'] as const)('content of two registries, %s', (read) => {
  it('comes from either', async () => {
    const { first, second, both } = twoRegistries({ read });
    for (const side of [first, second]) {
      const { manifest, layer } = await pushImage(side, 'a', undefined);
      const { digest } = layer.descriptor;
      expect(await readAll(await both.getBlob('a', digest))).toEqual(layer.bytes);
      expect(await readAll(await both.getBlobRange('a', digest, 10, 20))).toEqual(layer.bytes.subarray(10, 20));
      expect((await both.resolveBlob('a', digest)).size).toBe(layer.bytes.byteLength);
      expect((await both.getManifest('a', manifest.descriptor.digest)).descriptor).toEqual(manifest.descriptor);
      expect(await both.resolveManifest('a', manifest.descriptor.digest)).toEqual(manifest.descriptor);
    }
  });

  it('comes from the one that can be reached, and an outage is not taken for absence', async () => {
    const { first, second } = twoRegistries();
    const { layer } = await pushImage(first, 'a', undefined);
    await pushImage(second, 'a', undefined);
    const { digest } = layer.descriptor;
    const missing = content('never pushed').descriptor.digest;
    const secondDown = unify(first, outage(second), { read });
    expect(await readAll(await secondDown.getBlob('a', digest))).toEqual(layer.bytes);
    await expect(secondDown.getBlob('a', missing)).rejects.toEqual(code('UNAVAILABLE', 'in the second'));
    const firstDown = unify(outage(first), second, { read });
    await expect(firstDown.getBlob('a', digest)).rejects.toEqual(code('UNAVAILABLE', 'in the first'));
    const other = unify(outage(second), first, { read });
    expect(await readAll(await other.getBlob('a', digest))).toEqual(layer.bytes);
    const unknown = unify(first, second, { read });
    await expect(unknown.resolveManifest('a', missing)).rejects.toEqual(code('MANIFEST_UNKNOWN'));
    await expect(unify(outage(first), outage(second), { read }).resolveBlob('a', digest)).rejects.toEqual(
      code('UNAVAILABLE', 'in the first'),
    );
  });

  it('says which thing is unknown where one side does not know the repository', async () => {
    const { first } = twoRegistries();
    await pushImage(first, 'a', undefined);
    const nothing = funcs({
      getBlob: async () => await Promise.reject(new RegistryError('NAME_UNKNOWN', 'no such repository')),
    });
    const { digest } = content('never pushed').descriptor;
    for (const both of [unify(first, nothing, { read }), unify(nothing, first, { read })]) {
      await expect(both.getBlob('a', digest)).rejects.toEqual(code('BLOB_UNKNOWN'));
    }
  });
});

describe('content of two registries that are asked at once', () => {
  function readerOf(text: string): BlobReader & { readonly closed: () => boolean } {
    const blob = content(text);
    const body = Readable.from([blob.bytes], { objectMode: false });
    return { descriptor: blob.descriptor, body, close: () => void body.destroy(), closed: () => body.destroyed };
  }
  const { digest } = content('x').descriptor;

  it('comes from the faster one, and the slower one is cancelled', async () => {
    const cancelled = new Deferred<Error>();
    const fast = readerOf('x');
    const quick = funcs({ getBlob: async () => await Promise.resolve(fast) });
    const slow = funcs({
      getBlob: async (_repository, _digest, { signal } = {}) =>
        await new Promise((_resolve, reject) => {
          signal?.addEventListener('abort', () => {
            cancelled.resolve(signal.reason as Error);
            reject(signal.reason as Error);
          });
        }),
    });
    for (const both of [unify(quick, slow, { read: 'concurrent' }), unify(slow, quick, { read: 'concurrent' })]) {
      const reader = await both.getBlob('a', digest);
      expect(reader).toBe(fast);
      expect((await cancelled.promise).name).toBe('AbortError');
      expect(fast.closed()).toBe(false);
    }
  });

  it('is closed when it comes too late', async () => {
    const gate = new Deferred<void>();
    const late = readerOf('x');
    const slow = funcs({
      getBlob: async () => {
        await gate.promise;
        return late;
      },
    });
    const quick = funcs({ getBlob: async () => await Promise.resolve(readerOf('x')) });
    const reader = await unify(slow, quick, { read: 'concurrent' }).getBlob('a', digest);
    expect(reader).not.toBe(late);
    const closed = new Promise((resolve) => void late.body.once('close', resolve));
    gate.resolve();
    await closed;
    expect(String(await readAll(reader))).toBe('x');
  });

  it('is still bound to the signal of the caller after the call', async () => {
    const { first, second, both } = twoRegistries({ read: 'concurrent' });
    const blob = content(3_000_000);
    for (const side of [first, second]) await push(side, 'a', blob);
    const stopping = new AbortController();
    const reader = await both.getBlob('a', blob.descriptor.digest, { signal: stopping.signal });
    stopping.abort();
    await expect(readAll(reader)).rejects.toThrow();
  });

  it('stops both for the caller', async () => {
    const stopping = new AbortController();
    const signals: AbortSignal[] = [];
    const stuck = funcs({
      getBlob: async (_repository, _digest, { signal }: CallOptions = {}) =>
        await new Promise((_resolve, reject) => {
          signals.push(signal as AbortSignal);
          signal?.addEventListener('abort', () => reject(new Error('connection closed')));
        }),
    });
    const reading = unify(stuck, stuck, { read: 'concurrent' }).getBlob('a', digest, { signal: stopping.signal });
    stopping.abort(new Error('enough'));
    await expect(reading).rejects.toThrow('enough');
    expect(signals.map(({ aborted }) => aborted)).toEqual([true, true]);
  });
});

describe('tags of two registries', () => {
  it('are asked of both and must agree', async () => {
    const { first, second, both } = twoRegistries();
    const { manifest } = await pushImage(both, 'a', 'same');
    expect(await both.resolveTag('a', 'same')).toEqual(manifest.descriptor);
    expect(Buffer.from((await both.getTag('a', 'same')).bytes)).toEqual(manifest.bytes);
    const one = await pushImage(first, 'a', 'other');
    const two = await pushImage(second, 'a', 'other');
    for (const asked of [both.resolveTag('a', 'other'), both.getTag('a', 'other')]) {
      const error: unknown = await asked.catch((reason: unknown) => reason);
      expect(error).toEqual(code('RESPONSE_INVALID', one.manifest.descriptor.digest));
      expect(error).toEqual(code('RESPONSE_INVALID', two.manifest.descriptor.digest));
    }
  });

  it('agree when two push one at the same moment', async () => {
    // Each side would take the other manifest first.
    const sideThatWaitsFor = (slow: string): Registry => {
      const store = new MemoryRegistry();
      return funcs({
        resolveTag: async (repository, tag) => await store.resolveTag(repository, tag),
        pushManifest: async (repository, tag, bytes, mediaType) => {
          await delay(Buffer.from(bytes).includes(slow) ? 50 : 0);
          return await store.pushManifest(repository, tag, bytes, mediaType);
        },
      });
    };
    const both = unify(sideThatWaitsFor('one'), sideThatWaitsFor('two'));
    const [one, two] = await Promise.all(
      ['one', 'two'].map(async (name) => {
        const { bytes } = content(JSON.stringify({ schemaVersion: 2, manifests: [], annotations: { name } }));
        return (await both.pushManifest('a', 'v1', bytes, mediaTypes.imageIndex)).digest;
      }),
    );
    expect([one, two]).toContain((await both.resolveTag('a', 'v1')).digest);
  });

  it('are those of one side when the other does not know or cannot be asked', async () => {
    const { first, second } = twoRegistries();
    const { manifest } = await pushImage(first, 'a', 'v1');
    const sides = [
      unify(first, second),
      unify(second, first),
      unify(first, outage(second)),
      unify(outage(second), first),
    ];
    for (const both of sides) {
      expect(await both.resolveTag('a', 'v1')).toEqual(manifest.descriptor);
      expect((await both.getTag('a', 'v1')).descriptor).toEqual(manifest.descriptor);
    }
    await expect(unify(outage(first), second).resolveTag('a', 'v1')).rejects.toEqual(code('UNAVAILABLE', 'first'));
    await expect(unify(second, outage(first)).getTag('a', 'v1')).rejects.toEqual(code('UNAVAILABLE', 'second'));
    await expect(unify(first, second).resolveTag('a', 'v2')).rejects.toEqual(code('MANIFEST_UNKNOWN'));
  });
});

describe('lists of two registries', () => {
  it('are merged in order, each item once', async () => {
    const { first, second, both } = twoRegistries();
    for (const tag of ['a', 'c', 'd', 'x']) await pushImage(first, 'one', tag);
    for (const tag of ['b', 'c', 'e']) await pushImage(second, 'one', tag);
    await pushImage(second, 'another', 'x');
    await pushImage(second, 'two', 'x');
    expect(await listAll(both.tags('one'))).toEqual(['a', 'b', 'c', 'd', 'e', 'x']);
    expect(await listAll(both.tags('one', { startAfter: 'c' }))).toEqual(['d', 'e', 'x']);
    expect(await listAll(both.repositories())).toEqual(['another', 'one', 'two']);
    expect(await listAll(both.tags('two'))).toEqual(['x']);
    await expect(listAll(both.tags('three'))).rejects.toEqual(code('NAME_UNKNOWN'));
  });

  it('are merged while they stream, and both ended when the reader leaves', async () => {
    const { log, endless } = endlessTags();
    const read: string[] = [];
    for await (const tag of unify(endless('a'), endless('b')).tags('x')) {
      read.push(tag);
      if (read.length === 4) break;
    }
    expect(read).toEqual(['000a', '000b', '001a', '001b']);
    expect(log.filter((line) => line.startsWith('gave')).length).toBeLessThanOrEqual(6);
    expect(log.filter((line) => line.startsWith('ended'))).toEqual(['ended a', 'ended b']);
  });

  it('need both registries', async () => {
    const { first, second } = twoRegistries();
    await pushImage(first, 'a', 'x');
    await expect(listAll(unify(first, outage(second)).tags('a'))).rejects.toEqual(code('UNAVAILABLE', 'second'));
    await expect(listAll(unify(outage(second), first).repositories())).rejects.toEqual(code('UNAVAILABLE', 'first'));
    const { digest } = content('x').descriptor;
    await expect(listAll(unify(first, outage(second)).referrers('a', digest))).rejects.toEqual(
      code('UNAVAILABLE', 'second'),
    );
  });

  it('end a side that is in the middle of a request when the other fails', async () => {
    const { first } = twoRegistries();
    let aborted = false;
    const stuck = funcs({
      tags: async function* (_repository, { signal } = {}): AsyncGenerator<string> {
        await once(signal as AbortSignal, 'abort');
        aborted = true;
        yield* [];
      },
    });
    await expect(listAll(unify(stuck, outage(first)).tags('a'))).rejects.toEqual(code('UNAVAILABLE', 'second'));
    expect(aborted).toBe(true);
  });

  it('of referrers are merged by digest', async () => {
    const { first, second, both } = twoRegistries();
    const { manifest } = await pushImage(both, 'a', 'v1');
    const subject = manifest.descriptor;
    const shared = await pushImage(both, 'a', undefined, { subject, artifactType: 'a/b' });
    const one = await pushImage(first, 'a', undefined, { subject, artifactType: 'a/b' });
    const two = await pushImage(second, 'a', undefined, { subject, artifactType: 'c/d' });
    const digests = async (artifactType?: string) =>
      new Set((await listAll(both.referrers('a', subject.digest, { artifactType }))).map(({ digest }) => digest));
    const [s, o, t] = [shared, one, two].map((image) => image.manifest.descriptor.digest);
    expect(await listAll(both.referrers('a', subject.digest))).toHaveLength(3);
    expect(await digests()).toEqual(new Set([s, o, t]));
    expect(await digests('a/b')).toEqual(new Set([s, o]));
    expect(await digests('c/d')).toEqual(new Set([t]));
  });

  function endlessTags() {
    const log: string[] = [];
    const endless = (name: string) =>
      funcs({
        tags: async function* (): AsyncGenerator<string> {
          try {
            for (let i = 0; ; i += 1) {
              log.push(`gave ${name}`);
              yield `${String(i).padStart(3, '0')}${name}`;
              await Promise.resolve();
            }
          } finally {
            log.push(`ended ${name}`);
          }
        },
      });
    return { log, endless };
  }
});

describe('deleting from two registries', () => {
  it('succeeds when one side had it', async () => {
    const { first, second, both } = twoRegistries();
    for (const side of [first, second]) {
      const { manifest, layer } = await pushImage(side, 'a', 'v1');
      await pushImage(both, 'a', 'kept');
      await both.deleteTag('a', 'v1');
      await both.deleteManifest('a', manifest.descriptor.digest);
      await both.deleteBlob('a', layer.descriptor.digest);
      await expect(side.resolveManifest('a', manifest.descriptor.digest)).rejects.toEqual(code('MANIFEST_UNKNOWN'));
      await expect(both.deleteTag('a', 'v1')).rejects.toEqual(code('MANIFEST_UNKNOWN'));
      await expect(both.deleteManifest('a', manifest.descriptor.digest)).rejects.toEqual(code('MANIFEST_UNKNOWN'));
      await expect(both.deleteBlob('a', layer.descriptor.digest)).rejects.toEqual(code('BLOB_UNKNOWN'));
    }
  });

  it('fails when one side fails, and can be done again', async () => {
    const { first, second, both } = twoRegistries();
    const { layer } = await pushImage(both, 'a', 'v1');
    const { digest } = layer.descriptor;
    await expect(unify(outage(first), second).deleteBlob('a', digest)).rejects.toEqual(code('UNAVAILABLE', 'first'));
    await expect(second.resolveBlob('a', digest)).rejects.toEqual(code('BLOB_UNKNOWN'));
    await both.deleteBlob('a', digest);
    await expect(first.resolveBlob('a', digest)).rejects.toEqual(code('BLOB_UNKNOWN'));
    await expect(unify(outage(first), second).deleteBlob('a', digest)).rejects.toEqual(code('UNAVAILABLE', 'first'));
  });
});
