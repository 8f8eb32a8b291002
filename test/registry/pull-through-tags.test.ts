import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { digestHex } from '../../src/oci/digest.ts';
import { DirRegistry, pullThrough } from '../../src/registry/registry.ts';
import { answer, body, everything, forManifests } from '../support/faults.ts';
import { has, proxyStack } from '../support/proxy-stack.ts';
import { content, listAll, push, pushImage } from '../support/registry-content.ts';
import type { Fault } from '../support/registry-front.ts';
import { tempDir } from '../support/tmp.ts';

const blob = content(1_000);

describe('tags and manifests through the cache', () => {
  it('asks upstream again only when the time of a tag is over, and then with one HEAD', async () => {
    const { origin, front, cache, later } = await proxyStack({ tagTtlMs: 60_000 });
    const { manifest } = await pushImage(origin, 'a', 'v1');
    expect(await cache.resolveTag('a', 'v1')).toEqual(manifest.descriptor);
    expect(front.seen().map(({ method }) => method)).toEqual(['HEAD', 'GET']);
    front.forget();
    later(59_999);
    expect(Buffer.from((await cache.getTag('a', 'v1')).bytes)).toEqual(manifest.bytes);
    expect(front.requests).toEqual([]);
    later(1);
    expect(await cache.resolveTag('a', 'v1')).toEqual(manifest.descriptor);
    await cache.getTag('a', 'v1');
    expect(front.seen().map(({ method }) => method)).toEqual(['HEAD']);
    const moved = await pushImage(origin, 'a', 'v1');
    later(60_000);
    expect(await cache.resolveTag('a', 'v1')).toEqual(moved.manifest.descriptor);
  });

  it('keeps a manifest whose blobs nobody has read', async () => {
    const { origin, front, cache, store } = await proxyStack();
    const { manifest, layer } = await pushImage(origin, 'a', 'v1');
    await cache.getManifest('a', manifest.descriptor.digest);
    expect(await has(store, layer.descriptor)).toBe(false);
    await front.close();
    expect(Buffer.from((await cache.getManifest('a', manifest.descriptor.digest)).bytes)).toEqual(manifest.bytes);
    expect(await cache.resolveManifest('a', manifest.descriptor.digest)).toEqual(manifest.descriptor);
    await expect(cache.getBlob('a', layer.descriptor.digest)).rejects.toMatchObject({ code: 'UNREACHABLE' });
  });

  it.each<[string, Fault | undefined, string]>([
    ['is gone', undefined, 'UNREACHABLE'],
    ['is overloaded', answer(503), 'UNAVAILABLE'],
    ['limits the rate', answer(429, { 'retry-after': '3600' }), 'TOOMANYREQUESTS'],
  ])('gives the last known content of a tag when upstream %s, and says so', async (_what, fault, code) => {
    const { origin, front, cache, later, events, restarted } = await proxyStack();
    const { manifest } = await pushImage(origin, 'a', 'v1');
    await cache.resolveTag('a', 'v1');
    if (fault === undefined) await front.close();
    else front.interfere(everything, fault);
    later(60_000);
    expect(await cache.resolveTag('a', 'v1')).toEqual(manifest.descriptor);
    expect(events).toMatchObject([{ kind: 'stale', what: 'a:v1', error: { code } }]);
    front.forget();
    expect(await cache.resolveTag('a', 'v1')).toEqual(manifest.descriptor);
    expect(front.requests).toEqual([]);
    expect(Buffer.from((await restarted().getTag('a', 'v1')).bytes)).toEqual(manifest.bytes);
    await expect(cache.getTag('a', 'v2')).rejects.toMatchObject({ code });
  });

  it('does not believe a tag after a restart', async () => {
    const { origin, cache, restarted } = await proxyStack();
    await pushImage(origin, 'a', 'v1');
    await cache.resolveTag('a', 'v1');
    const { manifest } = await pushImage(origin, 'a', 'v1');
    expect(await restarted().resolveTag('a', 'v1')).toEqual(manifest.descriptor);
  });

  it('forgets a tag that upstream has no more, and keeps nothing of one that never was', async () => {
    const { origin, front, cache, store, later } = await proxyStack();
    await pushImage(origin, 'a', 'v1');
    await cache.resolveTag('a', 'v1');
    await origin.deleteTag('a', 'v1');
    later(60_000);
    await expect(cache.resolveTag('a', 'v1')).rejects.toMatchObject({ code: 'MANIFEST_UNKNOWN', status: 404 });
    await expect(store.resolveTag('a', 'v1')).rejects.toMatchObject({ code: 'MANIFEST_UNKNOWN' });
    await pushImage(origin, 'a', 'v1');
    await cache.resolveTag('a', 'v1');
    front.interfere(everything, answer(401));
    later(60_000);
    // Who is not let in any more is not given what was known before.
    await expect(cache.resolveTag('a', 'v1')).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
  });

  it('keeps what upstream said about a failure', async () => {
    const { front, cache } = await proxyStack();
    front.interfere(everything, answer(429, { 'retry-after': '3600' }));
    const digest = blob.descriptor.digest;
    const calls = [cache.getBlob('a', digest), cache.getTag('a', 'x'), cache.getManifest('a', digest)];
    const reason = { code: 'TOOMANYREQUESTS', status: 429, retryAfterMs: 3_600_000 };
    const failed = { status: 'rejected', reason };
    expect(await Promise.allSettled(calls)).toMatchObject([failed, failed, failed]);
  });

  it('does not take a manifest with other bytes than asked for', async () => {
    const { origin, front, cache, store } = await proxyStack();
    const { manifest } = await pushImage(origin, 'a', 'v1');
    const other = Buffer.from(manifest.bytes);
    other[10] = 0x20;
    front.interfere(forManifests, body(200, other.toString('latin1')));
    const { digest } = manifest.descriptor;
    await expect(cache.getManifest('a', digest)).rejects.toMatchObject({ code: 'DIGEST_INVALID' });
    await expect(store.getManifest('a', digest)).rejects.toMatchObject({ code: 'MANIFEST_UNKNOWN' });
    // Nor from a directory, which does not look at them.
    const dir = tempDir();
    const damaged = await pushImage(new DirRegistry(dir), 'a', 'v1');
    const name = damaged.manifest.descriptor.digest;
    writeFileSync(path.join(dir, 'repositories/a/_manifests/sha256', digestHex(name)), other);
    const reading = pullThrough(new DirRegistry(dir), store).getTag('a', 'v1');
    await expect(reading).rejects.toMatchObject({ code: 'DIGEST_INVALID' });
  });

  it('lists what upstream has, and without upstream what it knows itself', async () => {
    const { origin, front, cache, events } = await proxyStack();
    const { manifest } = await pushImage(origin, 'a', 'v1');
    await pushImage(origin, 'a', 'v2');
    const subject = manifest.descriptor;
    const referrer = await pushImage(origin, 'a', undefined, { subject, artifactType: 'a/b' });
    expect(await listAll(cache.tags('a'))).toEqual(['v1', 'v2']);
    const [found] = await listAll(cache.referrers('a', subject.digest));
    expect(found?.digest).toBe(referrer.manifest.descriptor.digest);
    await cache.getTag('a', 'v1');
    await cache.getManifest('a', referrer.manifest.descriptor.digest);
    await front.close();
    expect(await listAll(cache.tags('a'))).toEqual(['v1']);
    expect(await listAll(cache.repositories())).toEqual(['a']);
    expect(await listAll(cache.referrers('a', subject.digest))).toEqual([found]);
    expect(events.map((event) => event.kind === 'stale' && event.what)).toEqual([
      'tags of a',
      'repositories',
      `referrers of a@${subject.digest}`,
    ]);
    // None in the store does not mean none at all.
    const unknown = listAll(cache.referrers('a', referrer.manifest.descriptor.digest));
    await expect(unknown).rejects.toMatchObject({ code: 'UNREACHABLE' });
  });
});

describe('writes to the cache', () => {
  it('are refused, and upstream hears nothing of them', async () => {
    const { front, cache } = await proxyStack();
    const { digest } = blob.descriptor;
    const writes = [
      push(cache, 'a', blob),
      cache.pushBlobChunked('a', undefined),
      cache.resumeBlob('a', 'x', undefined),
      cache.mountBlob('a', 'b', digest),
      cache.pushManifest('a', 'x', Buffer.from('{}'), 'a/b'),
      cache.deleteBlob('a', digest),
      cache.deleteManifest('a', digest),
      cache.deleteTag('a', 'x'),
    ];
    const readOnly = expect.stringMatching(/^repository [ab] cannot be changed: the registry is read-only$/);
    for (const write of await Promise.allSettled(writes))
      expect(write).toMatchObject({ status: 'rejected', reason: { code: 'UNSUPPORTED', message: readOnly } });
    expect(front.requests).toEqual([]);
  });

  it('go upstream when that is wanted, and are known without asking', async () => {
    const { origin, front, cache, store } = await proxyStack({ writes: 'upstream' });
    const { manifest } = await pushImage(cache, 'a', 'v1');
    expect(await origin.resolveTag('a', 'v1')).toEqual(manifest.descriptor);
    front.forget();
    expect(await cache.resolveTag('a', 'v1')).toEqual(manifest.descriptor);
    expect(front.requests).toEqual([]);
    await cache.deleteTag('a', 'v1');
    await expect(origin.resolveTag('a', 'v1')).rejects.toMatchObject({ code: 'MANIFEST_UNKNOWN' });
    await expect(store.resolveTag('a', 'v1')).rejects.toMatchObject({ code: 'MANIFEST_UNKNOWN' });
    await cache.deleteManifest('a', manifest.descriptor.digest);
    await front.close();
    await expect(cache.getManifest('a', manifest.descriptor.digest)).rejects.toMatchObject({ code: 'UNREACHABLE' });
  });
});
