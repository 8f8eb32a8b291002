// What images were pulled with: kept, sealed, refused and forgotten.
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { daemonSource } from '../../src/daemon/credential-order.ts';
import { RememberedSecrets } from '../../src/daemon/remembered-secrets.ts';
import { openSecret, sealSecret } from '../../src/daemon/sealed-secret.ts';
import { readSecretKey } from '../../src/daemon/secret-key.ts';
import { createLog, silentLog } from '../../src/observe/log.ts';
import { anonymous, staticCredentials } from '../../src/registry/auth/credentials.ts';
import type { CredentialSource, Credentials } from '../../src/registry/auth/credentials.ts';
import { RegistryError } from '../../src/registry/errors.ts';
import { openState } from '../../src/state/state.ts';
import { tempDir } from '../support/tmp.ts';

const ann: Credentials = { kind: 'password', username: 'ann', password: 'se:cret' };
const bob: Credentials = { kind: 'password', username: 'bob', password: 'other' };
const token: Credentials = { kind: 'refresh-token', token: 'tok', username: 'u' };
const bearer: Credentials = { kind: 'access-token', token: 'bearer' };

function world(root = tempDir()) {
  const state = openState(root);
  onTestFinished(() => state.close());
  const logFile = path.join(root, 'log');
  const open = (key: Buffer | undefined, more: { maxRecords?: number; now?: () => number } = {}) =>
    new RememberedSecrets({
      table: state.secrets,
      key: key === undefined ? undefined : Buffer.from(key),
      log: createLog({ to: logFile }),
      ...more,
    });
  return { state, open, log: () => readFileSync(logFile, { encoding: 'utf8', flag: 'a+' }) };
}

describe('sealed secrets', () => {
  it('open only with their key and for their scope', () => {
    const key = randomBytes(32);
    const sealed = sealSecret(key, 'r.io/a', Buffer.from('secret'));
    expect(sealed).not.toEqual(sealSecret(key, 'r.io/a', Buffer.from('secret')));
    expect(openSecret(key, 'r.io/a', sealed)?.toString()).toBe('secret');
    expect(openSecret(key, 'r.io/b', sealed)).toBeUndefined();
    expect(openSecret(randomBytes(32), 'r.io/a', sealed)).toBeUndefined();
    for (let length = 0; length < sealed.length; length += 1)
      expect(openSecret(key, 'r.io/a', sealed.subarray(0, length))).toBeUndefined();
    for (let at = 0; at < sealed.length; at += 1) {
      const damaged = Buffer.from(sealed);
      damaged[at] = (damaged[at] ?? 0) ^ 1;
      expect(openSecret(key, 'r.io/a', damaged)).toBeUndefined();
    }
  });
});

describe('remembered secrets', () => {
  it('come back with their key, the newest of a repository', () => {
    const { open } = world();
    const key = randomBytes(32);
    const first = open(key);
    first.remember('r.io', 'a/b', bob);
    first.remember('r.io', 'a/b', ann);
    first.remember('r.io', 'c', token);
    first.remember('r.io', 'd', bearer);
    first.close();
    first.close();
    expect(first.size).toBe(0);
    const second = open(key);
    expect(second.get('r.io', 'a/b')).toEqual({ credentials: ann, refused: false });
    expect(second.get('r.io', 'c')?.credentials).toEqual(token);
    expect(second.get('r.io', 'd')?.credentials).toEqual(bearer);
    expect(second.get('r.io', 'a')).toBeUndefined();
  });

  it('are passed over, and told of once, where the key is another or a record is damaged', () => {
    const { open, state, log } = world();
    const key = randomBytes(32);
    const first = open(key);
    for (const name of ['a', 'b', 'c', 'd']) first.remember('r.io', name, ann);
    const [a, b] = state.secrets.list();
    state.secrets.put('r.io/b', a?.sealed ?? Buffer.alloc(0));
    state.secrets.put('r.io/a', b?.sealed ?? Buffer.alloc(0));
    state.secrets.put('r.io/c', sealSecret(key, 'r.io/c', Buffer.from('{"kind":"password"}')));
    expect(open(key).size).toBe(1);
    expect(open(randomBytes(32)).size).toBe(0);
    const lines = log().trim().split('\n');
    expect(lines.map((line) => (JSON.parse(line) as { unreadable: number }).unreadable)).toEqual([3, 4]);
    expect(log()).not.toContain('se:cret');
    // A wrong key destroys nothing.
    expect(open(key).size).toBe(1);
  });

  it('are not written down without a key', () => {
    const { open, state } = world();
    const secrets = open(undefined);
    secrets.remember('r.io', 'a', ann);
    expect(secrets.get('r.io', 'a')?.credentials).toEqual(ann);
    expect(state.secrets.list()).toEqual([]);
  });

  it('are bounded: the least recently used goes, on disk too', () => {
    const { open, state } = world();
    const key = randomBytes(32);
    const secrets = open(key, { maxRecords: 3 });
    for (const name of ['a', 'b', 'c']) secrets.remember('r.io', name, ann);
    secrets.get('r.io', 'a');
    secrets.remember('r.io', 'd', ann);
    const scopes = () =>
      state.secrets
        .list()
        .map(({ scope }) => scope)
        .sort();
    expect(scopes()).toEqual(['r.io/a', 'r.io/c', 'r.io/d']);
    secrets.remember('r.io', 'e', { ...ann, password: 'x'.repeat(70_000) });
    expect(secrets.get('r.io', 'e')).toBeUndefined();
    open(key, { maxRecords: 2 });
    expect(scopes()).toHaveLength(2);
  });

  it('are used longest ago when they were not used, whatever was remembered last', () => {
    const { open, state } = world();
    let now = 1_000_000;
    const secrets = open(randomBytes(32), { now: () => now });
    for (const name of ['a', 'b']) secrets.remember('r.io', name, ann);
    now += 7_200_000;
    secrets.get('r.io', 'a');
    expect(state.secrets.list().map(({ scope }) => scope)).toEqual(['r.io/b', 'r.io/a']);
  });

  it('make way when they are refused and another source knows something else', async () => {
    const { open, state } = world();
    const secrets = open(randomBytes(32));
    const ask = (source: CredentialSource, fresh = false) =>
      daemonSource(secrets, [{ name: 'x', source }], silentLog()).lookup('r.io', { repository: 'a', fresh });
    secrets.remember('r.io', 'a', ann);
    const knowsBob = staticCredentials(bob, ['r.io']);
    expect(await ask(knowsBob)).toEqual(ann);
    expect(await ask(anonymous, true)).toEqual(ann);
    expect(await ask(staticCredentials(ann, ['r.io']), true)).toEqual(ann);
    expect(await ask(knowsBob)).toEqual(ann);
    // A pull brought others since they were handed out: those come first.
    secrets.remember('r.io', 'a', token);
    expect(await ask(knowsBob, true)).toEqual(token);
    expect(await ask(knowsBob, true)).toEqual(bob);
    expect(state.secrets.list()).toEqual([]);
    expect(await ask(anonymous)).toBeUndefined();
  });

  it('and other sources: one that fails is passed over, and told of once', async () => {
    const { open, log } = world();
    const failing: CredentialSource = {
      lookup: () => Promise.reject(new RegistryError('CREDENTIALS_INVALID', 'it is broken')),
    };
    const root = tempDir();
    const source = daemonSource(
      open(undefined),
      [
        { name: 'bad', source: failing },
        { name: 'good', source: staticCredentials(bob, ['r.io']) },
      ],
      createLog({ to: path.join(root, 'log') }),
    );
    expect(await source.lookup('r.io', { repository: 'a' })).toEqual(bob);
    expect(await source.lookup('r.io')).toEqual(bob);
    expect(readFileSync(path.join(root, 'log'), 'utf8').match(/it is broken/g)).toHaveLength(1);
    await expect(source.lookup('r.io', { signal: AbortSignal.abort(new Error('enough')) })).rejects.toThrow('enough');
    expect(log()).toBe('');
  });
});

describe('the key', () => {
  const root = () => {
    const dir = tempDir();
    mkdirSync(path.join(dir, 'state'));
    return { dir, state: path.join(dir, 'state'), key: path.join(dir, 'key') };
  };

  it.each([
    ['bytes', (key: Buffer) => key],
    ['hexadecimal', (key: Buffer) => `${key.toString('hex')}\n`],
    ['base64', (key: Buffer) => `${key.toString('base64')}\n`],
    ['base64url', (key: Buffer) => key.toString('base64url')],
  ])('is taken as %s', async (_name, write) => {
    const { state, key: file } = root();
    const key = randomBytes(32);
    writeFileSync(file, write(key), { mode: 0o400 });
    expect(await readSecretKey({ keyFile: file, credentialsDirectory: undefined, root: state })).toEqual(key);
  });

  it('comes from systemd where no file is named', async () => {
    const { dir, state } = root();
    const key = randomBytes(32);
    expect(await readSecretKey({ keyFile: undefined, credentialsDirectory: undefined, root: state })).toBeUndefined();
    expect(await readSecretKey({ keyFile: undefined, credentialsDirectory: dir, root: state })).toBeUndefined();
    writeFileSync(path.join(dir, 'peel-key'), key, { mode: 0o440 });
    expect(await readSecretKey({ keyFile: undefined, credentialsDirectory: dir, root: state })).toEqual(key);
  });

  it('is refused where it is of no use', async () => {
    const { dir, state, key } = root();
    const read = (keyFile: string) => readSecretKey({ keyFile, credentialsDirectory: undefined, root: state });
    const refusal = (why: RegExp) => ({ code: 'ERR_CONFIG_KEY', message: expect.stringMatching(why) });
    await expect(read(key)).rejects.toMatchObject(refusal(/key cannot be used: it cannot be read \(ENOENT\)/));
    await expect(read(dir)).rejects.toMatchObject(refusal(/it is not a file/));
    writeFileSync(key, randomBytes(32), { mode: 0o400 });
    chmodSync(key, 0o440);
    await expect(read(key)).rejects.toMatchObject(refusal(/others may read it \(mode 0440\): chmod 0400/));
    for (const text of ['', 'short', randomBytes(33), 'z'.repeat(64), randomBytes(2_000)]) {
      chmodSync(key, 0o600);
      writeFileSync(key, text);
      await expect(read(key)).rejects.toMatchObject(refusal(/expected 32 bytes/));
    }
    const inside = path.join(state, 'key');
    writeFileSync(inside, randomBytes(32), { mode: 0o400 });
    await expect(read(inside)).rejects.toMatchObject(refusal(/inside the state directory/));
    const link = path.join(dir, 'link');
    symlinkSync(inside, link);
    await expect(read(link)).rejects.toMatchObject(refusal(/inside the state directory/));
    symlinkSync(state, path.join(dir, 'other-name'));
    await expect(
      readSecretKey({ keyFile: inside, credentialsDirectory: undefined, root: path.join(dir, 'other-name') }),
    ).rejects.toMatchObject(refusal(/inside the state directory/));
  });
});
