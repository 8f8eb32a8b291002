import { describe, expect, it } from 'vitest';
import { DirRegistry, funcs } from '../../src/registry/registry.ts';
import type { Registry } from '../../src/registry/registry.ts';
import { callNames, callOf, recordingRegistry } from '../support/every-call.ts';
import { tempDir } from '../support/tmp.ts';

describe('a registry from a table of functions', () => {
  it.each(callNames)('does not support %s without a function for it', async (name) => {
    await expect(callOf(name).run(funcs({}), 'a')).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });

  it.each(callNames)('uses the function for %s', async (name) => {
    const { registry, calls } = recordingRegistry();
    const table: Partial<Registry> = { [name]: registry[name] };
    await expect(callOf(name).run(funcs(table), 'a')).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    expect(calls.map(([call]) => call)).toEqual([name]);
  });

  it('takes a whole registry, whose methods keep their this', async () => {
    await expect(funcs(new DirRegistry(tempDir())).getTag('a', 'x')).rejects.toMatchObject({
      code: 'MANIFEST_UNKNOWN',
    });
  });
});
