import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { DockerCredentials } from '../../../src/registry/auth/docker-config.ts';
import { installHelper } from '../../support/credential-helper.ts';
import { tempDir } from '../../support/tmp.ts';

function config(value: unknown, helperTimeoutMs?: number): DockerCredentials {
  const configFile = path.join(tempDir(), 'config.json');
  writeFileSync(configFile, JSON.stringify(value));
  return new DockerCredentials({ configFile, helperTimeoutMs });
}

describe('credential helpers', () => {
  it('asks the helper of the host, and the store for others', async () => {
    installHelper(
      'one',
      'read host; echo "{\\"ServerURL\\":\\"$host\\",\\"Username\\":\\"$1\\",\\"Secret\\":\\"$host\\"}"',
    );
    installHelper('two', 'echo "{\\"Username\\":\\"<token>\\",\\"Secret\\":\\"refresh\\"}"');
    const credentials = config({ credHelpers: { 'r.io': 'one' }, credsStore: 'two' });
    expect(await credentials.lookup('r.io')).toEqual({ kind: 'password', username: 'get', password: 'r.io' });
    expect(await credentials.lookup('docker.io')).toEqual({ kind: 'refresh-token', token: 'refresh' });
  });

  it('takes "not found" of a helper for nobody', async () => {
    installHelper('none', 'echo "credentials not found in native keychain"; exit 1');
    expect(await config({ credsStore: 'none' }).lookup('r.io')).toBeUndefined();
  });

  it.each([
    ['fails', 'echo "secret-thing" >&2; exit 3', 'status 3'],
    ['talks nonsense', 'echo secret-thing', 'not json'],
    ['answers with half', 'echo "{\\"Secret\\":\\"secret-thing\\"}"', 'without username'],
    ['never ends', 'sleep 30; echo secret-thing', 'within 400 ms'],
    ['leaves a child holding its output', 'sleep 30 & exec sleep 30', 'within 400 ms'],
    ['answers with too much', 'yes secret-thing', 'too much'],
  ])('says so when a helper %s, without what it said', async (_name, script, message) => {
    installHelper('bad', script);
    const error = await config({ credHelpers: { 'r.io': 'bad' } }, message === 'within 400 ms' ? 400 : undefined)
      .lookup('r.io')
      .catch((e: unknown) => e);
    expect(error).toMatchObject({ code: 'CREDENTIALS_INVALID', message: expect.stringContaining(message) });
    expect((error as Error).message + String((error as Error).cause)).not.toContain('secret-thing');
  });

  it('leaves no helper running that it gave up on', async () => {
    const pids = path.join(tempDir(), 'pids');
    installHelper('slow', `sleep 30 & echo $! $$ > ${pids}; wait`);
    await expect(config({ credsStore: 'slow' }, 400).lookup('r.io')).rejects.toThrow('within 400 ms');
    const running = () =>
      readFileSync(pids, 'utf8')
        .trim()
        .split(' ')
        .filter(
          (pid) => existsSync(`/proc/${pid}`) && !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8')),
        );
    for (let tries = 0; running().length > 0 && tries < 100; tries += 1)
      await new Promise((resolve) => setTimeout(resolve, 10));
    expect(running()).toEqual([]);
  });

  it('stores with the helper when there is one', async () => {
    const bin = tempDir();
    installHelper('kept', `cat > ${bin}/$1`);
    mkdirSync(path.join(bin, 'x'));
    expect(await config({ credsStore: 'kept' }).store('r.io', 'ann', 'se:cret')).toBe('docker-credential-kept');
    expect(JSON.parse(readFileSync(path.join(bin, 'store'), 'utf8'))).toEqual({
      ServerURL: 'r.io',
      Username: 'ann',
      Secret: 'se:cret',
    });
  });
});
