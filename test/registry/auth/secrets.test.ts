// Every way in which authentication fails here is made to fail with known secrets, by servers and helpers that repeat what they were
// told; none of what is thrown, logged or printed may hold one.
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { readFileSync, writeFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import path from 'node:path';
import { inspect } from 'node:util';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { CredentialSource, Credentials } from '../../../src/registry/auth/credentials.ts';
import { staticCredentials } from '../../../src/registry/auth/credentials.ts';
import { DockerCredentials } from '../../../src/registry/auth/docker-config.ts';
import { RemoteRegistry } from '../../../src/registry/remote-registry.ts';
import { installHelper } from '../../support/credential-helper.ts';
import { startDockerRegistry } from '../../support/docker-registry.ts';
import type { Fault } from '../../support/faulty-registry.ts';
import { startFaultyRegistry } from '../../support/faulty-registry.ts';
import { peelMain, run } from '../../support/run.ts';
import { pushImage } from '../../support/registry-content.ts';
import { tempDir } from '../../support/tmp.ts';
import { issuer, service, startTokenServer } from '../../support/token-server.ts';

const secret = 'S3cret"with/odd+letters';
const issuedToken = 'issued-t0ken-value';
const password: Credentials = { kind: 'password', username: 'ann', password: secret };
const refresh: Credentials = { kind: 'refresh-token', token: secret };
const access: Credentials = { kind: 'access-token', token: 'configured-t0ken' };
const basic = Buffer.from(`ann:${secret}`).toString('base64');
const forms = [
  secret,
  JSON.stringify(secret).slice(1, -1),
  encodeURIComponent(secret),
  basic,
  issuedToken,
  'configured-t0ken',
];

function expectNoSecret(...texts: readonly string[]): void {
  for (const text of texts) for (const form of forms) expect(text).not.toContain(form);
}

function expectSafe(error: unknown): void {
  expect(error).toBeInstanceOf(Error);
  expectNoSecret(
    inspect(error, { depth: null, showHidden: true, getters: true }),
    JSON.stringify(error),
    JSON.stringify(error, Object.getOwnPropertyNames(error)),
    (error as Error).stack ?? '',
  );
}

/** Everything that a server was told, in every form of an answer that is shown. */
const echo =
  (status: number): Fault =>
  async (request, response) => {
    let body = '';
    for await (const chunk of request) body += String(chunk);
    const { authorization = '' } = request.headers;
    const decoded = Buffer.from(authorization.split(' ')[1] ?? '', 'base64').toString();
    const told = [authorization, decoded, body, decodeURIComponent(body)].join(' ');
    response.writeHead(status, {
      'content-type': 'application/json',
      warning: `299 - "${authorization}"`,
    });
    response.end(
      JSON.stringify({ details: told, errors: [{ code: 'UNAUTHORIZED', message: told, detail: { told } }] }),
    );
    return true;
  };

/** A registry that wants a bearer token, and a token server with a fault. */
async function tokenFault(fault: Fault, registryFault?: Fault) {
  const tokens = await startFaultyRegistry(undefined, fault);
  const registry = await startFaultyRegistry(undefined, async (request, response) => {
    if (request.headers.authorization !== undefined && registryFault !== undefined)
      return await registryFault(request, response);
    response.writeHead(401, { 'www-authenticate': `Bearer realm="${tokens.url}/token"` }).end();
    return true;
  });
  onTestFinished(async () => {
    await registry.close();
    await tokens.close();
  });
  return registry.host;
}

async function failure(host: string, credentials: CredentialSource): Promise<unknown> {
  const warnings: string[] = [];
  const backoff = { attempts: 2, baseMs: 1, maxMs: 1, maxRetryAfterMs: 1 };
  const registry = new RemoteRegistry({ host, credentials, backoff, onWarning: (text) => warnings.push(text) });
  onTestFinished(async () => await registry.close());
  const error: unknown = await registry.resolveTag('a/b', 'v1').catch((e: unknown) => e);
  expectNoSecret(...warnings, inspect(registry, { depth: null, showHidden: true }));
  return error;
}

const say =
  (text: string): Fault =>
  (_request, response) => (response.end(text), true);
const cut = (response: ServerResponse, text: string) => {
  response.writeHead(200, { 'content-length': 1_000 });
  response.write(text, () => response.destroy());
};

describe.each([
  ['a password', password],
  ['a refresh token', refresh],
  ['an access token', access],
])('what is thrown with %s', (_name, credentials) => {
  const faults: readonly (readonly [string, Fault])[] = [
    ...[400, 401, 403, 404, 429, 500, 503].map((status) => [`repeats it with ${status}`, echo(status)] as const),
    ['is not json', say(`${secret} ${issuedToken}`)],
    ['has a token with a line break', say(JSON.stringify({ token: `${issuedToken}\r\nx: ${secret}` }))],
    ['ends in the middle', (_request, response) => (cut(response, `{"token":"${issuedToken}`), true)],
    [
      'sends it elsewhere',
      (_request, response) => (
        response.writeHead(307, { location: `https://r.io/?p=${encodeURIComponent(secret)}` }).end(), true
      ),
    ],
    ['never comes', (request) => (request.socket.destroy(), true)],
  ];

  it.each(faults)('holds no secret when the answer of a token server %s', async (_fault, fault) => {
    const host = await tokenFault(fault);
    expectSafe(await failure(host, staticCredentials(credentials, [host])));
  });

  it.each([400, 401, 403, 404, 500])('holds no secret when a registry repeats it with %i', async (status) => {
    const host = await tokenFault(say(JSON.stringify({ token: issuedToken })), echo(status));
    expectSafe(await failure(host, staticCredentials(credentials, [host])));
  });

  it('holds no secret when a server does not speak HTTP', async () => {
    const server = createServer((socket) => {
      socket.on('error', () => {});
      socket.on('data', (told) => socket.end(`NONSENSE ${issuedToken} ${secret} ${told.toString()}`));
    });
    await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void server.close());
    const realm = `http://127.0.0.1:${(server.address() as AddressInfo).port}/token`;
    const registry = await startFaultyRegistry(undefined, (_request, response) => {
      response.writeHead(401, { 'www-authenticate': `Bearer realm="${realm}"` }).end();
      return true;
    });
    onTestFinished(async () => await registry.close());
    expectSafe(await failure(registry.host, staticCredentials(credentials, [registry.host])));
  });
});

describe('what is thrown by sources', () => {
  it.each([
    'echo $SECRET; exit 3',
    'echo $SECRET >&2; exit 3',
    'echo $SECRET',
    'echo "{\\"Secret\\":\\"$SECRET\\"}"',
    'echo "{\\"Username\\":\\"$SECRET"',
    'yes $SECRET',
  ])('holds no secret of a helper that does %s', async (script) => {
    installHelper('loud', script.replaceAll('$SECRET', issuedToken));
    const configFile = path.join(tempDir(), 'config.json');
    writeFileSync(configFile, JSON.stringify({ credsStore: 'loud' }));
    const error: unknown = await new DockerCredentials({ configFile }).lookup('r.io').catch((e: unknown) => e);
    expectSafe(error);
  });

  it('tells a helper nothing by its arguments, and what it keeps by its input', async () => {
    const seen = path.join(tempDir(), 'seen');
    installHelper('seen', `tr '\\0' '\\n' < /proc/$$/cmdline > ${seen}; env >> ${seen}; cat > /dev/null; exit 1`);
    const configFile = path.join(tempDir(), 'config.json');
    writeFileSync(configFile, JSON.stringify({ credsStore: 'seen' }));
    const error: unknown = await new DockerCredentials({ configFile })
      .store('r.io', 'ann', secret)
      .catch((e: unknown) => e);
    expectSafe(error);
    expectNoSecret(readFileSync(seen, 'utf8'));
  });
});

describe('peel', () => {
  it('uses what the environment says and prints none of it', async () => {
    const tokens = await startTokenServer((user) => (user === 'ann' ? ['pull', 'push'] : []));
    const { certificateFile } = tokens;
    const server = await startDockerRegistry({
      token: { realm: `${tokens.url}/token`, service, issuer, certificateFile },
    });
    onTestFinished(async () => await server.close());
    tokens.passwords.set('ann', secret);
    const pusher = new RemoteRegistry({ host: server.host, credentials: staticCredentials(password, [server.host]) });
    onTestFinished(async () => await pusher.close());
    await pushImage(pusher, 'a/b', 'v1');
    const inspectImage = async (variables: Readonly<Record<string, string>>) =>
      await run(process.execPath, [peelMain, 'inspect', '--root', tempDir(), `${server.host}/a/b:v1`], {
        env: { HOME: tempDir(), PEEL_RUN_DIR: tempDir(), PEEL_LOG_LEVEL: 'trace', ...variables },
      });
    const config = JSON.stringify({ auths: { [server.host]: { auth: basic } } });
    const good = await inspectImage({ DOCKER_AUTH_CONFIG: config });
    // It was allowed to read the config, which is no image's.
    expect(good.err).toContain('lists no diffIDs');
    tokens.passwords.set('ann', 'another');
    const bad = await inspectImage({ DOCKER_AUTH_CONFIG: config });
    expect(bad.err).toContain('was denied');
    const broken = await inspectImage({ DOCKER_AUTH_CONFIG: config.slice(0, -3) });
    expect(broken.err).toContain('variable DOCKER_AUTH_CONFIG: not valid json');
    expectNoSecret(good.out, good.err, bad.out, bad.err, broken.out, broken.err);
  });
});
