import { renameSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { hashSync } from 'bcryptjs';
import { describe, expect, it, onTestFinished } from 'vitest';
import { parseHtpasswd } from '../../../src/registry/server/htpasswd.ts';
import { built } from '../../support/built-registry.ts';
import { tempDir } from '../../support/tmp.ts';

const cost = 4;
const line = (user: string, password: string) => `${user}:${hashSync(password, cost)}\n`;

async function serving(text: string) {
  const file = path.join(tempDir(), 'htpasswd');
  writeFileSync(file, text);
  const errors: Error[] = [];
  const server = await built.serveRegistry(new built.DirRegistry(tempDir()), {
    htpasswd: file,
    onError: (error) => {
      if (error instanceof Error && (error as { code?: string }).code !== 'UNAUTHORIZED') errors.push(error);
    },
  });
  onTestFinished(async () => await server.close());
  const ask = async (credentials?: string, target = '/v2/') => {
    const authorization =
      credentials === undefined ? undefined : `Basic ${Buffer.from(credentials).toString('base64')}`;
    const headers = authorization === undefined ? {} : { authorization };
    const answer = await fetch(server.url + target, { headers });
    return { status: answer.status, challenge: answer.headers.get('www-authenticate'), text: await answer.text() };
  };
  return { file, errors, ask };
}

describe('a server with a password file', () => {
  it('lets in whoever knows a password, and asks everybody else for it', async () => {
    const { ask } = await serving(`# people\n\n${line('ann', 'pass:word')}${line('bob', 'пароль')}`);
    expect((await ask('ann:pass:word')).status).toBe(200);
    expect((await ask('ann:pass:word')).status).toBe(200);
    expect((await ask('bob:пароль')).status).toBe(200);
    for (const credentials of [undefined, 'ann:wrong', 'ann:', 'ann', 'eve:pass:word', ':pass:word', 'bob:pass:word']) {
      for (const target of ['/v2/', '/v2/a/tags/list', '/v2/A', '/nowhere']) {
        const answer = await ask(credentials, target);
        expect([answer.status, answer.challenge]).toEqual([401, 'Basic realm="registry", charset="UTF-8"']);
        expect(JSON.parse(answer.text)).toMatchObject({ errors: [{ code: 'UNAUTHORIZED' }] });
      }
    }
  });

  it('knows new people and forgets old ones when the file changes', async () => {
    const { ask, file } = await serving(line('ann', 'one'));
    expect((await ask('ann:one')).status).toBe(200);
    writeFileSync(`${file}.new`, line('bob', 'two'));
    renameSync(`${file}.new`, file);
    expect((await ask('ann:one')).status).toBe(401);
    expect((await ask('bob:two')).status).toBe(200);
  });

  it('keeps its people while the file cannot be used, and says so', async () => {
    const { ask, file, errors } = await serving(line('ann', 'one'));
    writeFileSync(file, 'ann:plain\n');
    utimesSync(file, 1, 1);
    expect((await ask('ann:one')).status).toBe(200);
    expect((await ask('ann:one')).status).toBe(200);
    expect(errors.map(({ message }) => message)).toEqual([
      `password file ${file}, line 1: only bcrypt hashes are taken (htpasswd -B)`,
    ]);
  });

  it('tells those who come in a crowd to come again', async () => {
    const { ask } = await serving(`slow:${hashSync('x', 8)}\n`);
    const answers = await Promise.all(Array.from({ length: 80 }, (_, i) => ask(`slow:wrong${i}`)));
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([401, 429]));
    expect((await ask('slow:x')).status).toBe(200);
  });

  it('does not start without its file, or with one that is none', async () => {
    const htpasswd = path.join(tempDir(), 'htpasswd');
    const start = () => built.serveRegistry(new built.BaseRegistry(), { htpasswd });
    await expect(start()).rejects.toMatchObject({ code: 'ENOENT' });
    writeFileSync(htpasswd, `${line('ann', 'one')}bob:$apr1$salt$hash\n`);
    await expect(start()).rejects.toMatchObject({
      code: 'CREDENTIALS_INVALID',
      message: `password file ${htpasswd}, line 2: only bcrypt hashes are taken (htpasswd -B)`,
    });
    writeFileSync(htpasswd, '#'.repeat(2 * 1024 * 1024));
    await expect(start()).rejects.toMatchObject({ message: expect.stringContaining('too many') });
  });
});

describe('parseHtpasswd', () => {
  const hash = hashSync('x', cost);

  it('takes all names of bcrypt', () => {
    const text = ['a', 'b', 'y'].map((kind) => `${kind}:$2${kind}${hash.slice(3)}`).join('\r\n');
    expect([...parseHtpasswd(text, 'f').keys()]).toEqual(['a', 'b', 'y']);
  });

  it.each([
    ['nobody', 'expected user:hash'],
    [`:${hash}`, 'expected user:hash'],
    ['a:{SHA}fEqNCco3Yq9h5ZUglD3CZJT4lBs=', 'only bcrypt'],
    ['a:$6$salt$hash', 'only bcrypt'],
    ['a:plain', 'only bcrypt'],
    [`a:${hash}x`, 'only bcrypt'],
    [`a:$2b$99${hash.slice(6)}`, 'only bcrypt'],
  ])('refuses %j', (text, why) => {
    expect(() => parseHtpasswd(`# fine\n${text}`, 'f')).toThrow(`password file f, line 2: ${why}`);
  });
});
