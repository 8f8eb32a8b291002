import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { SharedSync } from '../../../src/registry/store/shared-sync.ts';
import { Deferred } from '../../../src/util/deferred.ts';
import { tempDir } from '../../support/tmp.ts';

/** Syncs that end when they are told to. */
function held() {
  const begun: { readonly dir: string; readonly end: Deferred<void> }[] = [];
  const syncs = new SharedSync((dir) => {
    const end = new Deferred<void>();
    begun.push({ dir, end });
    return end.promise;
  });
  return { syncs, begun, settle: () => new Promise(setImmediate) };
}

describe('SharedSync', () => {
  it('begins the sync of a caller after its call, and shares it with those who came meanwhile', async () => {
    const { syncs, begun, settle } = held();
    const first = syncs.sync('a');
    await settle();
    expect(begun).toHaveLength(1);
    const ended: string[] = [];
    const late = ['b', 'c', 'd'].map((name) => syncs.sync('a').then(() => ended.push(name)));
    await settle();
    // The one under way may have missed what they changed, and there is one at a time.
    expect(begun).toHaveLength(1);
    begun[0]?.end.resolve();
    await first;
    await settle();
    expect(ended).toEqual([]);
    expect(begun).toHaveLength(2);
    const last = syncs.sync('a');
    begun[1]?.end.resolve();
    await Promise.all(late);
    await settle();
    expect(begun).toHaveLength(3);
    begun[2]?.end.resolve();
    await last;
    expect(syncs.size).toBe(0);
  });

  it('shares one sync among calls of the same moment, and none among directories', async () => {
    const { syncs, begun, settle } = held();
    const all = Promise.all(['a', 'a', 'b', 'a'].map((dir) => syncs.sync(dir)));
    await settle();
    expect(begun.map(({ dir }) => dir)).toEqual(['a', 'b']);
    for (const { end } of begun) end.resolve();
    await all;
    expect(syncs.size).toBe(0);
  });

  it('tells a failure to those who shared that sync alone', async () => {
    const { syncs, begun, settle } = held();
    const failing = Promise.allSettled([syncs.sync('a'), syncs.sync('a')]);
    await settle();
    const next = syncs.sync('a');
    begun[0]?.end.reject(new Error('disk is gone'));
    expect((await failing).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    await settle();
    begun[1]?.end.resolve();
    await next;
    expect(syncs.size).toBe(0);
  });

  it('syncs directories, and fails for those that are not there', async () => {
    const dir = path.join(tempDir(), 'there');
    mkdirSync(dir);
    const syncs = new SharedSync();
    await syncs.sync(dir);
    await expect(syncs.sync(`${dir}/missing`)).rejects.toMatchObject({ code: 'ENOENT' });
  });
});
