// Secrets that are replaced while a long-lived client uses them.
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Authorizer } from '../../../src/registry/auth/authorizer.ts';
import { parseChallenges } from '../../../src/registry/auth/challenge.ts';
import type { CredentialSource, Credentials } from '../../../src/registry/auth/credentials.ts';
import { basicAuthorization, staticCredentials } from '../../../src/registry/auth/credentials.ts';
import { DockerCredentials } from '../../../src/registry/auth/docker-config.ts';
import { Scope } from '../../../src/registry/auth/scope.ts';
import { HttpConnections, defaultHttpOptions } from '../../../src/registry/client/http.ts';
import { RemoteRegistry } from '../../../src/registry/remote-registry.ts';
import { installHelper } from '../../support/credential-helper.ts';
import { startFaultyRegistry } from '../../support/faulty-registry.ts';
import { tempDir } from '../../support/tmp.ts';

const scope = Scope.repository('a/b', 'pull');
const backoff = { attempts: 1, baseMs: 1, maxMs: 1, maxRetryAfterMs: 1 };

/** A registry that wants `wants.header`, or a token that was made for it, and takes nothing else. */
async function guarded(scheme: 'basic' | 'bearer' | 'both') {
  const wants = { header: '' };
  const token = () => `for-${wants.header.replace('Basic ', '')}`;
  const registry = await startFaultyRegistry(undefined, (request, response) => {
    const { authorization } = request.headers;
    const bearer = `Bearer realm="${registry.url}/token",service="s"`;
    const challenge = { basic: 'Basic realm="r"', bearer, both: `Basic realm="r", ${bearer}` }[scheme];
    if (request.url?.startsWith('/token') === true) {
      const known = authorization === wants.header;
      response.writeHead(known ? 200 : 401).end(known ? JSON.stringify({ token: token() }) : undefined);
    } else if (authorization === (scheme === 'basic' ? wants.header : `Bearer ${token()}`)) {
      response.writeHead(200).end();
    } else {
      response.writeHead(401, { 'www-authenticate': challenge }).end();
    }
    return true;
  });
  onTestFinished(async () => await registry.close());
  return { wants, registry };
}

function client(host: string, credentials: CredentialSource): RemoteRegistry {
  const made = new RemoteRegistry({ host, credentials, backoff });
  onTestFinished(async () => await made.close());
  return made;
}

describe.each(['basic', 'bearer'] as const)('a registry with %s authentication', (scheme) => {
  it('is reached within the same call after a helper got another secret', async () => {
    const { wants, registry } = await guarded(scheme);
    const helper = installHelper('cloud');
    const configFile = path.join(tempDir(), 'config.json');
    writeFileSync(configFile, JSON.stringify({ credHelpers: { [registry.host]: 'cloud' } }));
    const credentials = new DockerCredentials({ configFile });
    helper.answer('ann', 'first');
    wants.header = basicAuthorization('ann', 'first');
    const reached = client(registry.host, credentials);
    await reached.ping();
    await reached.ping();
    expect(helper.starts()).toBe(1);
    helper.answer('ann', 'second');
    wants.header = basicAuthorization('ann', 'second');
    // Another client takes the stale answer that is kept, and notices too.
    await client(registry.host, credentials).ping();
    expect(helper.starts()).toBe(2);
    await reached.ping();
  });

  it('is reached within the same call after the file changed', async () => {
    const { wants, registry } = await guarded(scheme);
    const configFile = path.join(tempDir(), 'config.json');
    const reached = client(registry.host, new DockerCredentials({ configFile }));
    for (const password of ['first', 'other']) {
      const auth = Buffer.from(`ann:${password}`).toString('base64');
      writeFileSync(configFile, JSON.stringify({ auths: { [registry.host]: { auth } } }));
      wants.header = basicAuthorization('ann', password);
      await reached.ping();
    }
  });

  it('is reached by somebody who logs in after having been refused', async () => {
    const { wants, registry } = await guarded(scheme);
    const configFile = path.join(tempDir(), 'config.json');
    const credentials = new DockerCredentials({ configFile });
    const reached = client(registry.host, credentials);
    wants.header = basicAuthorization('ann', 'se:cret');
    await expect(reached.ping()).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
    await credentials.store(registry.host, 'ann', 'se:cret');
    await reached.ping();
  });

  it('is not asked for ever where every secret is refused', async () => {
    const { wants, registry } = await guarded(scheme);
    wants.header = 'nothing that anybody sends';
    let lookups = 0;
    const endless: CredentialSource = {
      lookup: async () => ({ kind: 'password', username: 'ann', password: `guess-${(lookups += 1)}` }),
    };
    const reached = client(registry.host, endless);
    for (let i = 0; i < 3; i += 1) await expect(reached.ping()).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
    expect(registry.requests.length).toBeLessThan(20);
  });
});

describe('a registry that says 403 of a password that has expired', () => {
  it('is reached within the same call with the next one, and asks once for what is forbidden', async () => {
    let good = basicAuthorization('AWS', 'first');
    const registry = await startFaultyRegistry(undefined, (request, response) => {
      const { authorization } = request.headers;
      if (authorization === undefined) response.writeHead(401, { 'www-authenticate': 'Basic realm="r"' });
      else response.writeHead(authorization === good ? 200 : 403);
      response.end();
      return true;
    });
    onTestFinished(async () => await registry.close());
    const helper = installHelper('cloud');
    const configFile = path.join(tempDir(), 'config.json');
    writeFileSync(configFile, JSON.stringify({ credHelpers: { [registry.host]: 'cloud' } }));
    const reached = client(registry.host, new DockerCredentials({ configFile }));
    helper.answer('AWS', 'first');
    await reached.ping();
    helper.answer('AWS', 'second');
    good = basicAuthorization('AWS', 'second');
    await reached.ping();
    good = 'none';
    const before = registry.requests.length;
    await expect(reached.ping()).rejects.toMatchObject({ code: 'DENIED', status: 403 });
    expect(registry.requests.length).toBe(before + 1);
  });
});

describe('Authorizer', () => {
  /** Credentials that a test replaces, and a clock that it moves. */
  function authorizer() {
    const state: { credentials: Credentials | undefined; now: number; asked: string[] } = {
      credentials: { kind: 'access-token', token: 'first' },
      now: 1_000_000,
      asked: [],
    };
    const connections = new HttpConnections(defaultHttpOptions);
    onTestFinished(async () => await connections.destroy());
    const made = new Authorizer({
      host: 'r.io',
      endpoint: new URL('https://r.io'),
      connections,
      now: () => state.now,
      credentials: {
        lookup: async (_host, options) => {
          state.asked.push(options?.fresh === true ? 'fresh' : 'known');
          return state.credentials;
        },
      },
    });
    return { state, made };
  }
  const basic = parseChallenges('Basic realm="r"');

  it('looks up a changed person by itself after some seconds', async () => {
    const { state, made } = authorizer();
    expect(await made.authorization(scope)).toBeUndefined();
    expect(await made.answerChallenge(basic, scope, undefined)).toMatchObject({ header: 'Bearer first' });
    state.credentials = { kind: 'password', username: 'ann', password: 'p' };
    expect(await made.authorization(scope)).toMatchObject({ header: 'Bearer first' });
    state.now += 6_000;
    expect(await made.authorization(scope)).toMatchObject({ header: basicAuthorization('ann', 'p') });
    expect(state.asked).toEqual(['known', 'known']);
  });

  it('looks up again once for all whose credentials are refused', async () => {
    const { state, made } = authorizer();
    const refused = await made.answerChallenge(basic, scope, undefined);
    state.credentials = { kind: 'access-token', token: 'second' };
    const answers = await Promise.all(
      Array.from({ length: 10 }, async () => await made.answerChallenge(basic, scope, refused)),
    );
    expect(answers.every((answer) => answer?.header === 'Bearer second')).toBe(true);
    expect(await made.answerChallenge(basic, scope, refused)).toMatchObject({ header: 'Bearer second' });
    expect(state.asked).toEqual(['known', 'fresh']);
    expect(await made.answerChallenge(basic, scope, answers[0])).toBeUndefined();
  });

  it('gives the lookup of one who leaves to those who wait', async () => {
    const { made } = authorizer();
    const controller = new AbortController();
    const leaver = made.answerChallenge(basic, scope, undefined, { signal: controller.signal });
    const other = made.answerChallenge(basic, scope, undefined);
    controller.abort(new Error('left'));
    await expect(leaver).rejects.toThrow('left');
    expect(await other).toMatchObject({ header: 'Bearer first' });
  });

  it('has no answer to a scheme that it does not know', async () => {
    const { made } = authorizer();
    expect(await made.answerChallenge(parseChallenges('Negotiate'), scope, undefined)).toBeUndefined();
  });
});

describe('a registry that offers both', () => {
  it('gets a token and never sees the password', async () => {
    const { wants, registry } = await guarded('both');
    wants.header = basicAuthorization('ann', 'se:cret');
    const credentials = staticCredentials({ kind: 'password', username: 'ann', password: 'se:cret' }, [registry.host]);
    await client(registry.host, credentials).ping();
    const schemes = registry.headers.map(({ authorization }) => authorization?.split(' ')[0]);
    expect(registry.requests.map((text, i) => `${text.split('?')[0]} ${schemes[i]}`)).toEqual([
      'GET /v2/ undefined',
      'GET /token Basic',
      'GET /v2/ Bearer',
    ]);
  });
});
