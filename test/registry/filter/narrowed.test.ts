// Views of some of a registry's repositories: `select` and `subPath`.
import { describe, expect, it } from 'vitest';
import { DirRegistry, select, subPath } from '../../../src/registry/registry.ts';
import { callNames, callOf, recordingRegistry } from '../../support/every-call.ts';
import { content, listAll, push, pushImage, readAll } from '../../support/registry-content.ts';
import { tempDir } from '../../support/tmp.ts';

const attacks = [
  '..',
  '../x',
  '../teammate',
  'a/../../x',
  './a',
  '/a',
  '/teammate/a',
  'a//b',
  'a/',
  '',
  '%2e%2e/x',
  'a\0b',
  'A',
];

describe('a selection of repositories', () => {
  const onlyTeam = (repository: string) => repository === 'team' || repository.startsWith('team/');

  it.each(callNames)('treats %s of another repository by what it does', async (name) => {
    if (name === 'repositories') return;
    const { registry, calls } = recordingRegistry();
    const { kind, run } = callOf(name);
    const code = (kind === 'write' && name !== 'mountBlob') || kind === 'delete' ? 'DENIED' : 'NAME_UNKNOWN';
    for (const repository of ['teammate', 'teammate/app', 'other', 'a/team']) {
      await expect(run(select(registry, onlyTeam), repository)).rejects.toMatchObject({ code });
    }
    for (const repository of attacks) {
      await expect(
        run(
          select(registry, () => true),
          repository,
        ),
      ).rejects.toMatchObject({ code: 'NAME_INVALID' });
    }
    expect(calls).toEqual([]);
    await expect(run(select(registry, onlyTeam), 'team/app')).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    expect(calls).toHaveLength(1);
  });

  it('leaves the others out of the catalog', async () => {
    const store = new DirRegistry(tempDir());
    for (const name of ['other', 'team', 'team/app', 'teammate', 'zoo']) await pushImage(store, name, 'x');
    const registry = select(store, async (name) => await Promise.resolve(onlyTeam(name)));
    expect(await listAll(registry.repositories())).toEqual(['team', 'team/app']);
    expect(await listAll(registry.repositories({ startAfter: 'team' }))).toEqual(['team/app']);
  });

  it('mounts only between its repositories', async () => {
    const store = new DirRegistry(tempDir());
    const registry = select(store, onlyTeam);
    const blob = content(100);
    const { digest } = blob.descriptor;
    await push(store, 'team/one', blob);
    await push(store, 'other', blob);
    await expect(registry.mountBlob('other', 'team/two', digest)).rejects.toMatchObject({ code: 'NAME_UNKNOWN' });
    await expect(registry.mountBlob('team/one', 'elsewhere', digest)).rejects.toMatchObject({ code: 'DENIED' });
    await registry.mountBlob('team/one', 'team/two', digest);
    expect(await readAll(await registry.getBlob('team/two', digest))).toEqual(blob.bytes);
  });
});

describe('a sub-path of a registry', () => {
  it.each(callNames)('gives %s the full name and lets none escape', async (name) => {
    const { registry, calls } = recordingRegistry();
    const view = subPath(registry, 'team/one');
    if (name !== 'repositories') {
      for (const repository of attacks) {
        await expect(callOf(name).run(view, repository)).rejects.toMatchObject({ code: 'NAME_INVALID' });
      }
      expect(calls).toEqual([]);
    }
    await expect(callOf(name).run(view, 'app')).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    const repositories = calls.flatMap(([, ...args]) => args.slice(0, name === 'mountBlob' ? 2 : 1));
    const full = 'team/one/app';
    if (name === 'repositories') expect(repositories).toEqual([{ startAfter: 'team/one/' }]);
    else expect(repositories).toEqual(name === 'mountBlob' ? [full, full] : [full]);
  });

  it('does not take a prefix that is no name', () => {
    for (const prefix of attacks) {
      expect(() => subPath(new DirRegistry('/nowhere'), prefix)).toThrow(
        expect.objectContaining({ code: 'NAME_INVALID' }),
      );
    }
  });

  it('does not take a name that is too long with its prefix', async () => {
    const view = subPath(new DirRegistry(tempDir()), 'p'.repeat(100));
    await expect(view.getTag('a'.repeat(200), 'x')).rejects.toMatchObject({ code: 'NAME_INVALID' });
  });

  it('lists the repositories below its prefix, stripped, also from the middle', async () => {
    const store = new DirRegistry(tempDir());
    // In lexical order `-` and `.` come before the slash, letters and digits after it.
    const others = ['other', 'tea', 'team', 'team-a/x', 'team.a/x', 'team0', 'teammate/x', 'zoo/team/x'];
    for (const name of [...others, 'team/b', 'team/a', 'team/a/deep', 'team/c']) await pushImage(store, name, 'x');
    const view = subPath(store, 'team');
    expect(await listAll(view.repositories())).toEqual(['a', 'a/deep', 'b', 'c']);
    expect(await listAll(view.repositories({ startAfter: 'a' }))).toEqual(['a/deep', 'b', 'c']);
    expect(await listAll(view.repositories({ startAfter: 'b' }))).toEqual(['c']);
    expect(await listAll(view.repositories({ startAfter: 'zoo' }))).toEqual([]);
    expect(await listAll(view.repositories({ startAfter: '../a' }))).toEqual(['a', 'a/deep', 'b', 'c']);
    expect(await listAll(subPath(store, 'nobody').repositories())).toEqual([]);
  });

  it('is the same content as under the full name, views of views included', async () => {
    const store = new DirRegistry(tempDir());
    const view = subPath(subPath(store, 'team'), 'one');
    const { manifest } = await pushImage(view, 'app', 'x');
    expect(await store.resolveTag('team/one/app', 'x')).toEqual(manifest.descriptor);
    expect(await listAll(view.repositories())).toEqual(['app']);
    await pushImage(store, 'team/two', 'x');
    await expect(view.getTag('two', 'x')).rejects.toMatchObject({ code: 'MANIFEST_UNKNOWN' });
  });
});
