import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { DirRegistry, RegistryError, funcs, trace } from '../../src/registry/registry.ts';
import type { TraceEvent } from '../../src/registry/registry.ts';
import { callNames, callOf, recordingRegistry } from '../support/every-call.ts';
import { content, listAll, push, pushImage, readAll, streamOf } from '../support/registry-content.ts';
import { tempDir } from '../support/tmp.ts';

function traced(store = new DirRegistry(tempDir())) {
  const events: TraceEvent[] = [];
  return { store, events, registry: trace(store, (event) => void events.push(event)) };
}

describe('a trace', () => {
  it.each(callNames)('has one event for %s, with how it failed', async (name) => {
    const { registry, calls } = recordingRegistry();
    const events: TraceEvent[] = [];
    const run = callOf(name).run(
      trace(registry, (event) => void events.push(event)),
      'team/app',
    );
    await expect(run).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    expect(calls).toHaveLength(1);
    const wanted = { operation: name, outcome: 'UNSUPPORTED', durationMs: expect.any(Number) };
    expect(events).toEqual([expect.objectContaining(wanted)]);
    if (name !== 'repositories') expect(events[0]?.repository).toBe('team/app');
  });

  it('counts the bytes of a body and ends with it', async () => {
    const { store, events, registry } = traced();
    const blob = content(300_000);
    const { digest } = blob.descriptor;
    await push(store, 'a', blob);
    const reader = await registry.getBlob('a', digest);
    expect(events).toEqual([]);
    expect(await readAll(reader)).toEqual(blob.bytes);
    expect(events.pop()).toMatchObject({
      operation: 'getBlob',
      repository: 'a',
      digest,
      outcome: 'ok',
      bytes: 300_000,
    });
    await readAll(await registry.getBlobRange('a', digest, 100, 200));
    expect(events).toEqual([
      expect.objectContaining({
        operation: 'getBlobRange',
        range: { start: 100, end: 200 },
        outcome: 'ok',
        bytes: 100,
      }),
    ]);
  });

  it('says that a body was closed early, and ends the transfer below', async () => {
    const { store, events } = traced();
    const blob = content(3_000_000);
    await push(store, 'a', blob);
    const below = await store.getBlob('a', blob.descriptor.digest);
    const registry = trace(funcs({ getBlob: async () => await Promise.resolve(below) }), (e) => void events.push(e));
    const reader = await registry.getBlob('a', blob.descriptor.digest);
    await once(reader.body, 'readable');
    const closed = once(reader.body, 'close');
    reader.close();
    reader.close();
    await closed;
    expect(below.body.destroyed).toBe(true);
    expect(events).toEqual([expect.objectContaining({ operation: 'getBlob', outcome: 'closed' })]);
    expect(events[0]?.bytes).toBeLessThan(3_000_000);
  });

  it('says how a body failed', async () => {
    const { store, events } = traced();
    const blob = content(100_000);
    await push(store, 'a', blob);
    const failing = funcs({
      getBlob: async (repository, digest, options) => {
        const reader = await store.getBlob(repository, digest, options);
        reader.body.once('data', () => reader.body.destroy(new RegistryError('TRUNCATED', 'cut')));
        return reader;
      },
    });
    const registry = trace(failing, (event) => void events.push(event));
    await expect(registry.getBlob('a', blob.descriptor.digest).then(readAll)).rejects.toMatchObject({
      code: 'TRUNCATED',
    });
    expect(events).toEqual([expect.objectContaining({ outcome: 'TRUNCATED' })]);
  });

  it('knows the caller who gave up from a registry that failed', async () => {
    const { store, events, registry } = traced();
    const blob = content(3_000_000);
    await push(store, 'a', blob);
    const stopping = new AbortController();
    const reader = await registry.getBlob('a', blob.descriptor.digest, { signal: stopping.signal });
    await once(reader.body, 'readable');
    stopping.abort();
    await expect(readAll(reader)).rejects.toThrow();
    expect(events).toEqual([expect.objectContaining({ outcome: 'aborted' })]);
  });

  it('counts what is pushed, and tells of nothing that was sent', async () => {
    const { events, registry } = traced();
    const blob = content(100_000);
    await registry.pushBlob('a', blob.descriptor, () => streamOf(blob.bytes));
    const { manifest } = await pushImage(registry, 'a', 'v1');
    expect(events[0]).toMatchObject({ operation: 'pushBlob', digest: blob.descriptor.digest, bytes: 100_000 });
    const { digest, size } = manifest.descriptor;
    expect(events.at(-1)).toMatchObject({ operation: 'pushManifest', tag: 'v1', digest, bytes: size, outcome: 'ok' });
    expect((await registry.getTag('a', 'v1')).descriptor.digest).toBe(digest);
    expect(events.at(-1)).toMatchObject({ operation: 'getTag', tag: 'v1', digest, bytes: size });
    for (const event of events) {
      for (const value of Object.values(event)) expect(['string', 'number', 'object']).toContain(typeof value);
      expect(JSON.stringify(event).length).toBeLessThan(400);
    }
  });

  it('ends an upload in chunks with its commit, and tells no id', async () => {
    const { events, registry } = traced();
    const blob = content(1_000);
    const { digest } = blob.descriptor;
    const first = await registry.pushBlobChunked('a', 500);
    await first.write(blob.bytes.subarray(0, 400));
    expect(events).toEqual([]);
    await first.close();
    const second = await registry.resumeBlob('a', first.id, 400);
    await second.write(blob.bytes.subarray(400));
    await second.commit(digest);
    await second.cancel();
    expect(events).toEqual([
      expect.objectContaining({ operation: 'pushBlobChunked', outcome: 'closed', bytes: 400 }),
      expect.objectContaining({ operation: 'resumeBlob', outcome: 'ok', bytes: 600, digest }),
    ]);
    expect(JSON.stringify(events)).not.toContain(first.id);
  });

  it('says how an upload in chunks failed, once', async () => {
    const { events, registry } = traced();
    const upload = await registry.pushBlobChunked('a', undefined);
    await upload.write(Buffer.from('one'));
    await expect(upload.commit(content('two').descriptor.digest)).rejects.toMatchObject({ code: 'DIGEST_INVALID' });
    await upload.cancel();
    const stopped = await registry.pushBlobChunked('a', undefined);
    await expect(stopped.write(Buffer.from('one'), { signal: AbortSignal.abort() })).rejects.toThrow();
    await stopped.cancel();
    expect(events.map(({ outcome }) => outcome)).toEqual(['DIGEST_INVALID', 'aborted']);
  });

  it('counts the items of a list, also of one left early', async () => {
    const { store, events, registry } = traced();
    for (const tag of ['a', 'b', 'c']) await pushImage(store, 'a', tag);
    await listAll(registry.tags('a'));
    for await (const tag of registry.tags('a')) if (tag === 'b') break;
    await listAll(registry.repositories());
    expect(events.map(({ operation, outcome, items }) => [operation, outcome, items])).toEqual([
      ['tags', 'ok', 3],
      ['tags', 'closed', 2],
      ['repositories', 'ok', 1],
    ]);
  });

  it('cuts names that are none', async () => {
    const { events, registry } = traced();
    await expect(registry.getTag('x'.repeat(10_000), 'y'.repeat(10_000))).rejects.toMatchObject({
      code: 'NAME_INVALID',
    });
    expect(JSON.stringify(events).length).toBeLessThan(1_000);
  });

  it.each<[string, (event: TraceEvent) => void | Promise<void>]>([
    [
      'throws',
      () => {
        throw new Error('the log is full');
      },
    ],
    ['rejects', async () => await Promise.reject(new Error('the log is full'))],
    ['never ends', async () => await new Promise(() => {})],
  ])('does its work when the sink %s', async (_what, sink) => {
    const registry = trace(new DirRegistry(tempDir()), sink);
    const { layer, manifest } = await pushImage(registry, 'a', 'v1');
    expect(await readAll(await registry.getBlob('a', layer.descriptor.digest))).toEqual(layer.bytes);
    expect(await listAll(registry.tags('a'))).toEqual(['v1']);
    await expect(registry.getTag('a', 'v2')).rejects.toMatchObject({ code: 'MANIFEST_UNKNOWN' });
    await registry.deleteManifest('a', manifest.descriptor.digest);
  });
});
