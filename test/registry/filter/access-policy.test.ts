import { describe, expect, it } from 'vitest';
import { DirRegistry, RegistryError, accessPolicy, readOnly } from '../../../src/registry/registry.ts';
import { callNames, callOf, recordingRegistry } from '../../support/every-call.ts';
import { content, listAll, push, pushImage, readAll } from '../../support/registry-content.ts';
import { tempDir } from '../../support/tmp.ts';

describe('an access policy', () => {
  it.each(callNames)('that refuses everything keeps %s from the registry', async (name) => {
    const { registry, calls } = recordingRegistry();
    await expect(
      callOf(name).run(
        accessPolicy(registry, () => false),
        'team/app',
      ),
    ).rejects.toMatchObject({
      code: 'DENIED',
    });
    expect(calls).toEqual([]);
  });

  it.each(callNames)('is asked about %s before the registry is', async (name) => {
    const { registry, calls } = recordingRegistry();
    const asked: string[] = [];
    const policy = accessPolicy(registry, (repository, kind) => {
      expect(calls).toEqual([]);
      asked.push(`${kind} ${repository}`);
      return true;
    });
    await expect(callOf(name).run(policy, 'team/app')).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    const wanted = `${callOf(name).kind} ${name === 'repositories' ? '*' : 'team/app'}`;
    expect(asked).toEqual(name === 'mountBlob' ? ['read team/app', wanted] : [wanted]);
    expect(calls.map(([call]) => call)).toEqual([name]);
  });

  it.each(callNames)('is not asked about names that are none by %s', async (name) => {
    if (name === 'repositories') return;
    const { registry, calls } = recordingRegistry();
    const policy = accessPolicy(registry, (repository) => {
      throw new Error(`asked about ${repository}`);
    });
    for (const repository of ['*', '../team', 'team/../app', 'Team', '']) {
      await expect(callOf(name).run(policy, repository)).rejects.toMatchObject({ code: 'NAME_INVALID' });
    }
    expect(calls).toEqual([]);
  });

  it('asks to read the source of a mount and to write its target', async () => {
    const registry = new DirRegistry(tempDir());
    const blob = content(100);
    await push(registry, 'source', blob);
    const allowed = new Set<string>();
    const policy = accessPolicy(registry, (repository, kind) => allowed.has(`${kind} ${repository}`));
    const mount = async () => await policy.mountBlob('source', 'target', blob.descriptor.digest);
    await expect(mount()).rejects.toMatchObject({ code: 'DENIED' });
    allowed.add('write target').add('write source').add('read target');
    await expect(mount()).rejects.toMatchObject({ code: 'DENIED' });
    allowed.delete('write target');
    allowed.add('read source');
    await expect(mount()).rejects.toMatchObject({ code: 'DENIED' });
    allowed.add('write target');
    await mount();
    expect(await readAll(await registry.getBlob('target', blob.descriptor.digest))).toEqual(blob.bytes);
  });

  it('leaves out of the catalog what may not be read', async () => {
    const registry = new DirRegistry(tempDir());
    for (const name of ['a', 'b', 'c', 'd']) await pushImage(registry, name, 'x');
    const policy = accessPolicy(registry, async (repository, kind) => {
      await Promise.resolve();
      if (repository === 'b') throw new RegistryError('UNAUTHORIZED', 'who are you');
      return repository === '*' || (kind === 'read' && repository !== 'c');
    });
    expect(await listAll(policy.repositories())).toEqual(['a', 'd']);
    expect(await listAll(policy.repositories({ startAfter: 'a' }))).toEqual(['d']);
  });

  it('ends the catalog when a check cannot be made', async () => {
    const registry = new DirRegistry(tempDir());
    await pushImage(registry, 'a', 'x');
    const policy = accessPolicy(registry, (repository) => {
      if (repository === '*') return true;
      throw new RegistryError('UNAVAILABLE', 'the policy is being changed');
    });
    await expect(listAll(policy.repositories())).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  });

  it('ends a call with what the check throws, and denies what the check says nothing about', async () => {
    const registry = new DirRegistry(tempDir());
    const silent = accessPolicy(registry, (() => undefined) as unknown as () => boolean);
    await expect(silent.getTag('a', 'x')).rejects.toMatchObject({
      code: 'DENIED',
      message: 'read access to repository a is denied',
    });
    const policy = accessPolicy(registry, async () => await Promise.reject(new RegistryError('UNAUTHORIZED', 'no')));
    await expect(policy.getTag('a', 'x')).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
  });

  it('hands the signal of the call to the check', async () => {
    const registry = new DirRegistry(tempDir());
    const stopping = new AbortController();
    const policy = accessPolicy(registry, async (_repository, _kind, { signal }) => {
      stopping.abort(new Error('enough'));
      signal?.throwIfAborted();
      return await Promise.resolve(true);
    });
    await expect(policy.getTag('a', 'x', { signal: stopping.signal })).rejects.toThrow('enough');
  });
});

describe('a read-only registry', () => {
  it.each(callNames)('treats %s by what it does', async (name) => {
    const { registry, calls } = recordingRegistry();
    await expect(callOf(name).run(readOnly(registry), 'team/app')).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    const { kind } = callOf(name);
    expect(calls).toHaveLength(kind === 'read' || kind === 'list' ? 1 : 0);
  });

  it('reads and lists what is there, and keeps it as it is', async () => {
    const store = new DirRegistry(tempDir());
    const { manifest, layer } = await pushImage(store, 'a', 'x');
    const registry = readOnly(store);
    expect(await registry.resolveTag('a', 'x')).toEqual(manifest.descriptor);
    expect(await readAll(await registry.getBlob('a', layer.descriptor.digest))).toEqual(layer.bytes);
    expect(await listAll(registry.repositories())).toEqual(['a']);
    expect(await listAll(registry.tags('a'))).toEqual(['x']);
    await expect(pushImage(registry, 'a', 'y')).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: 'repository a cannot be changed: the registry is read-only',
    });
    await expect(registry.deleteManifest('a', manifest.descriptor.digest)).rejects.toMatchObject({
      code: 'UNSUPPORTED',
    });
    expect(await listAll(store.tags('a'))).toEqual(['x']);
  });
});
