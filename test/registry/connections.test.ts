// What becomes of connections: kept for the next request, ended when nothing more is wanted of them, and none after the end; and
// answers that are not what they should be.
import { createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { once } from 'node:events';
import { PassThrough } from 'node:stream';
import { describe, expect, it, onTestFinished } from 'vitest';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { RemoteRegistry } from '../../src/registry/remote-registry.ts';
import type { RemoteRegistryOptions } from '../../src/registry/remote-registry.ts';
import { content, listAll } from '../support/registry-content.ts';
import { RegistryFront } from '../support/registry-front.ts';

const { digest } = content('a blob').descriptor;
const slept: number[] = [];
const timer = { random: () => 0, sleep: async (ms: number) => void slept.push(ms) };

async function startFront(): Promise<RegistryFront> {
  const front = await RegistryFront.start(undefined);
  onTestFinished(() => front.close());
  return front;
}

function client(host: string, options: Partial<RemoteRegistryOptions> = {}): RemoteRegistry {
  const registry = new RemoteRegistry({ host, timer, ...options });
  onTestFinished(() => registry.close());
  return registry;
}

describe('a message', () => {
  it.each<[string, number, Record<string, string>]>([
    ['a content-range', 206, { 'content-range': '\x9b31m' }],
    ['a content-encoding', 200, { 'content-encoding': '\x9b31m' }],
    ['a token server', 401, { 'www-authenticate': 'Bearer realm="ftp://\x9b31m?signature=s3cret"' }],
  ])('about %s that cannot be used has nothing for a terminal to obey and no query', async (_name, status, headers) => {
    const front = await startFront();
    front.interfere(
      () => true,
      (_request, response) => void response.writeHead(status, headers).end('x'),
    );
    const message = expect.not.stringMatching(/[\x80-\x9f]|s3cret/) as string;
    await expect(client(front.host).getBlobRange('a/b', digest, 0, 1)).rejects.toMatchObject({ message });
  });
});

it('a manifest whose size is told as 0 is looked at', async () => {
  const front = await startFront();
  const manifest = content('{"schemaVersion":2}', mediaTypes.imageManifest);
  front.interfere(
    () => true,
    ({ method }, response) => {
      response.writeHead(200, {
        'content-type': mediaTypes.imageManifest,
        'docker-content-digest': manifest.descriptor.digest,
        'content-length': method === 'HEAD' ? 0 : manifest.bytes.length,
      });
      response.end(method === 'HEAD' ? '' : manifest.bytes);
    },
  );
  expect(await client(front.host).resolveTag('a/b', 'v1')).toEqual(manifest.descriptor);
});

describe('a connection', () => {
  it('serves one HEAD after the other, however large the blob is', async () => {
    const front = await startFront();
    const sockets = new Set<Socket>();
    front.interfere(
      () => true,
      (request, response) => {
        sockets.add(request.socket);
        response.writeHead(200, { 'content-length': 5_000_000_000 }).end();
      },
    );
    const registry = client(front.host);
    for (let i = 0; i < 20; i += 1) await registry.resolveBlob('a/b', digest);
    expect(front.requests).toHaveLength(20);
    expect(sockets.size).toBeLessThan(5);
  });

  it('is dropped when an answer that nobody reads does not say how long it is', async () => {
    const dropped: Promise<unknown>[] = [];
    const server = createServer((socket) => {
      socket.on('error', () => {});
      socket.on('data', (head) => {
        if (head.toString().startsWith('GET /v2/a/b/tags/list?')) {
          dropped.push(new Promise((resolve) => socket.on('close', resolve)));
          socket.write('HTTP/1.1 307 Elsewhere\r\nlocation: /v2/elsewhere\r\n\r\n');
          const pour = (): void => {
            while (!socket.destroyed && socket.write(Buffer.alloc(65_536)));
          };
          socket.on('drain', pour);
          pour();
        } else socket.end('HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{"tags":["v1"]}');
      });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    onTestFinished(() => void server.close());
    const registry = client(`127.0.0.1:${(server.address() as AddressInfo).port}`);
    expect(await listAll(registry.tags('a/b'))).toEqual(['v1']);
    expect(await Promise.all(dropped)).toHaveLength(1);
  });
});

it('a body that the registry answers without reading it is given up', async () => {
  const front = await startFront();
  front.interfere(
    ({ method }) => method === 'POST',
    (_request, response) => void response.writeHead(202, { location: '/v2/a/b/blobs/uploads/1' }).end(),
  );
  front.interfere(
    ({ method }) => method === 'PUT',
    (_request, response) => void response.writeHead(403).end(),
  );
  const { bytes, descriptor } = content(1_000_000);
  const source = new PassThrough();
  source.write(bytes.subarray(0, 10));
  const pushed = client(front.host).pushBlob('a/b', descriptor, () => source);
  const closed = once(source, 'close');
  await expect(pushed).rejects.toMatchObject({ code: 'DENIED' });
  await closed;
});

it('what is under way when the client is closed fails and is not tried again', async () => {
  const front = await startFront();
  const asked = new Promise<void>((resolve) =>
    front.interfere(
      () => true,
      () => resolve(),
    ),
  );
  const registry = client(front.host);
  const resolved = registry.resolveTag('a/b', 'v1');
  await asked;
  slept.length = 0;
  await Promise.all([
    expect(resolved).rejects.toMatchObject({ code: 'UNREACHABLE', message: expect.stringContaining('was closed') }),
    registry.close(),
  ]);
  expect(slept).toEqual([]);
});

it('a token is not asked for to read where the registry once sent us', async () => {
  const [front, store, tokens] = [await startFront(), await startFront(), await startFront()];
  tokens.interfere(
    () => true,
    (_request, response) => void response.end(JSON.stringify({ token: 't', expires_in: 1e-3 })),
  );
  store.interfere(
    () => true,
    (_request, response) => void response.writeHead(206, { 'content-range': 'bytes 0-0/9' }).end('x'),
  );
  front.interfere(
    () => true,
    ({ headers }, response) => {
      const realm = `Bearer realm="http://${tokens.host}/token"`;
      if (headers.authorization === undefined) response.writeHead(401, { 'www-authenticate': realm }).end();
      else response.writeHead(307, { location: `http://${store.host}/blob` }).end();
    },
  );
  const registry = client(front.host);
  for (let i = 0; i < 3; i += 1) (await registry.getBlobRange('a/b', digest, 0, 1)).close();
  expect(store.requests).toHaveLength(3);
  expect(tokens.requests).toHaveLength(1);
});
