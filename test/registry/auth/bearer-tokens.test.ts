import { describe, expect, it, onTestFinished } from 'vitest';
import { Authorizer } from '../../../src/registry/auth/authorizer.ts';
import { Scope } from '../../../src/registry/auth/scope.ts';
import { defaultHttpOptions, HttpConnections } from '../../../src/registry/client/http.ts';
import { RemoteRegistry } from '../../../src/registry/remote-registry.ts';
import { startFaultyRegistry } from '../../support/faulty-registry.ts';
import { content, listAll, push, readAll } from '../../support/registry-content.ts';
import { annBasic, fixed, password, tokenWorld } from '../../support/token-world.ts';

describe('bearer tokens', () => {
  it('are asked for once per scope and used again', async () => {
    const world = await tokenWorld();
    const registry = world.client();
    await registry.resolveTag('a/b', 'v1');
    await registry.resolveBlob('a/b', world.image.layer.descriptor.digest);
    await Promise.all(Array.from({ length: 20 }, async () => await registry.getTag('a/b', 'v1')));
    expect(world.issued.map(({ scope }) => scope)).toEqual(['repository:a/b:pull']);
    expect(world.registry.requests[0]).toBe('HEAD /v2/a/b/manifests/v1');
    expect(world.registry.headers[0]?.authorization).toBeUndefined();
    await push(registry, 'a/b', content(1_000));
    expect(world.issued.map(({ scope }) => scope)).toEqual(['repository:a/b:pull', 'repository:a/b:pull,push']);
    await registry.resolveTag('a/b', 'v1');
    expect(world.issued).toHaveLength(2);
  });

  it('are asked for once by many at the same time', async () => {
    const world = await tokenWorld();
    const registry = world.client();
    await Promise.all(Array.from({ length: 20 }, async () => await registry.getTag('a/b', 'v1')));
    expect(world.issued).toHaveLength(1);
  });

  it('are given to the others when one of those who asked leaves', async () => {
    const world = await tokenWorld();
    const answered = world.tokens.fault;
    const controller = new AbortController();
    const asked = new Promise<void>((resolve) => {
      world.tokens.fault = async (request, response) => {
        resolve();
        await new Promise((go) => controller.signal.addEventListener('abort', () => setTimeout(go, 20)));
        return await answered(request, response);
      };
    });
    const registry = world.client();
    const leaver = registry.getTag('a/b', 'v1', { signal: controller.signal });
    const others = Promise.all(Array.from({ length: 5 }, async () => await registry.getTag('a/b', 'v1')));
    await asked;
    controller.abort(new Error('left'));
    await expect(leaver).rejects.toThrow('left');
    expect(await others).toHaveLength(5);
    expect(world.issued).toHaveLength(1);
  });

  it('are asked for with the credentials of the host', async () => {
    const world = await tokenWorld();
    const credentials = fixed(password);
    const registry = world.client({ credentials });
    await registry.resolveTag('a/b', 'v1');
    await registry.resolveTag('a/b', 'v1');
    expect(world.issued[0]?.authorization).toBe(annBasic);
    expect(credentials.hosts).toEqual([world.registry.host]);
    expect(world.registry.headers.map(({ authorization }) => authorization?.split(' ')[0])).toEqual([
      undefined,
      'Bearer',
      'Bearer',
    ]);
  });

  it('that expired or are refused are renewed once within the same call', async () => {
    const world = await tokenWorld();
    const registry = world.client();
    await registry.resolveTag('a/b', 'v1');
    world.refused.add(world.registry.headers.at(-1)?.authorization?.slice(7) ?? '');
    expect(await readAll(await registry.getBlob('a/b', world.image.layer.descriptor.digest))).toEqual(
      world.image.layer.bytes,
    );
    expect(world.issued).toHaveLength(2);
  });

  it('come from the service that the registry names for each repository', async () => {
    const asked: string[] = [];
    const registry = await startFaultyRegistry(undefined, (request, response) => {
      const url = new URL(`http://x${request.url}`);
      const service = url.pathname.split('/')[2] ?? '';
      if (url.pathname === '/token') {
        asked.push(url.searchParams.get('service') ?? '');
        response.end(JSON.stringify({ token: `for-${url.searchParams.get('service')}-${asked.length}` }));
      } else if (request.headers.authorization?.startsWith(`Bearer for-${service}-`) === true) {
        response.end(JSON.stringify({ name: service, tags: [] }));
      } else {
        const challenge = `Bearer realm="${registry.url}/token",service="${service}"`;
        response.writeHead(401, { 'www-authenticate': challenge }).end();
      }
      return true;
    });
    const client = new RemoteRegistry({ host: registry.host, credentials: fixed(password) });
    onTestFinished(async () => {
      await client.close();
      await registry.close();
    });
    for (const repository of ['a', 'b', 'a', 'b']) expect(await listAll(client.tags(repository))).toEqual([]);
    expect(asked).toEqual(['a', 'a', 'b']);
  });

  it('of a server that refuses every token are not asked for for ever', async () => {
    const world = await tokenWorld({ insist: 'never-granted-by-anybody' });
    world.tokens.fault = (_request, response) => {
      response.end('{"token":"x"}');
      return true;
    };
    await expect(world.client().resolveTag('a/b', 'v1')).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
    expect(world.registry.requests).toHaveLength(2);
  });

  it('with a short life are renewed before they are used', async () => {
    const world = await tokenWorld({ expiresIn: 0.05 });
    const registry = world.client();
    await registry.resolveTag('a/b', 'v1');
    await new Promise((resolve) => setTimeout(resolve, 60));
    await registry.resolveTag('a/b', 'v1');
    expect(world.issued).toHaveLength(2);
    expect(world.registry.requests).toHaveLength(3);
  });

  it('come from a refresh token by POST, which may be replaced', async () => {
    const world = await tokenWorld({ expiresIn: 0.02 });
    const registry = world.client({ credentials: fixed({ kind: 'refresh-token', token: 'first' }) });
    await registry.resolveTag('a/b', 'v1');
    await new Promise((resolve) => setTimeout(resolve, 30));
    await registry.resolveTag('a/b', 'v1');
    expect(
      world.issued.map(({ method, body }) => `${method} ${new URLSearchParams(body).get('refresh_token')}`),
    ).toEqual(['POST first', 'POST next-1']);
  });

  it('that were configured are used as they are', async () => {
    const world = await tokenWorld();
    const token = Buffer.from('0|repository:a/b:pull').toString('base64url');
    await world.client({ credentials: fixed({ kind: 'access-token', token }) }).resolveTag('a/b', 'v1');
    expect(world.issued).toEqual([]);
  });

  it.each([
    ['a wrong password', undefined, 'UNAUTHORIZED', 'incorrect username or password'],
    ['garbage', '<html>', 'RESPONSE_INVALID', 'not json'],
    ['no token', '{"expires_in":5}', 'RESPONSE_INVALID', 'without a token'],
    ['a token with a line break', '{"token":"a\\r\\nb"}', 'RESPONSE_INVALID', 'without a token'],
    ['null', 'null', 'RESPONSE_INVALID', 'without a token'],
    ['too much', 'x'.repeat(2_000_000), 'TOO_LARGE', 'more than'],
  ])('say what is wrong with %s, without the secret', async (_name, body, code, message) => {
    const world = await tokenWorld();
    if (body !== undefined) world.tokens.fault = (_request, response) => (response.end(body), true);
    const credentials = fixed({ kind: 'password', username: 'bob', password: 'hunter2' });
    const error = await world
      .client({ credentials })
      .resolveTag('a/b', 'v1')
      .catch((e: unknown) => e);
    expect(error).toMatchObject({ code, message: expect.stringContaining(message) });
    expect(JSON.stringify(error, Object.getOwnPropertyNames(error)) + String((error as Error).cause)).not.toMatch(
      /hunter2|<html>|a\r/,
    );
  });

  it.each([
    ['https://r.io', 'ftp://x/token'],
    ['https://r.io', 'not a url'],
    ['https://r.io', 'http://example.com/token'],
    ['http://localhost', 'file:///token'],
  ])('of %s are not asked for at %s', async (endpoint, realm) => {
    const connections = new HttpConnections(defaultHttpOptions);
    onTestFinished(() => connections.destroy());
    const authorizer = new Authorizer({
      host: 'r.io',
      endpoint: new URL(endpoint),
      credentials: fixed(password),
      connections,
    });
    const challenge = { scheme: 'bearer', parameters: new Map([['realm', realm]]) };
    await expect(authorizer.answerChallenge([challenge], Scope.parse('x'), undefined)).rejects.toMatchObject({
      code: 'RESPONSE_INVALID',
      message: expect.stringContaining('token server that cannot be used'),
    });
  });
});
