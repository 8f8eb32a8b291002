import { expect, it } from 'vitest';
import { configSchema } from '../../src/config/schema.ts';
import { changedKeys, restartKeys } from '../../src/daemon/config-changes.ts';

it('tells what changed in a configuration, and what of it a running daemon cannot take over', () => {
  const before = configSchema.parse({});
  const after = configSchema.parse({
    log: { level: 'debug' },
    control: { socket: '/run/other.sock' },
    download: { per_node: 3 },
    index: { formats: { soci_v1: false } },
    registry: { certs_dirs: [] },
  });
  expect(changedKeys(before, before)).toEqual([]);
  expect(changedKeys(before, after).sort()).toEqual([
    'control.socket',
    'download.per_node',
    'index.formats.soci_v1',
    'log.level',
    'registry.certs_dirs',
  ]);
  expect(restartKeys(before, after).sort()).toEqual(['control.socket', 'index.formats.soci_v1', 'registry.certs_dirs']);
  expect(changedKeys(after, before).sort()).toEqual(changedKeys(before, after).sort());
});
