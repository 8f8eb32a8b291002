import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { withReadAhead } from '../../src/image/transports/read-ahead.ts';
import { tempDir } from '../support/tmp.ts';

describe('withReadAhead', () => {
  const folder = (): { devices: string; add: (name: string) => void; value: (name: string) => string } => {
    const devices = tempDir();
    return {
      devices,
      add: (name) => {
        mkdirSync(path.join(devices, name));
        writeFileSync(path.join(devices, name, 'read_ahead_kb'), '128');
      },
      value: (name) => readFileSync(path.join(devices, name, 'read_ahead_kb'), 'utf8'),
    };
  };

  it('changes the one EROFS device that the mount brought, and no other', async () => {
    const { devices, add, value } = folder();
    add('erofs-1');
    add('0:40');
    const mount = async (): Promise<string> => {
      add('erofs-2');
      add('0:41');
      return 'mounted';
    };
    expect(await withReadAhead(mount, devices)).toBe('mounted');
    expect(['erofs-1', '0:40', 'erofs-2', '0:41'].map(value)).toEqual(['128', '128', '1024', '128']);
  });

  it('changes nothing where two came at the same moment', async () => {
    const { devices, add, value } = folder();
    await withReadAhead(async () => ['erofs-1', 'erofs-2'].forEach(add), devices);
    expect(['erofs-1', 'erofs-2'].map(value)).toEqual(['128', '128']);
  });

  it('mounts also where the kernel shows no devices, and passes on why a mount failed', async () => {
    expect(await withReadAhead(async () => 1, path.join(tempDir(), 'none'))).toBe(1);
    await expect(withReadAhead(() => Promise.reject(new Error('no')), tempDir())).rejects.toThrow('no');
  });
});
