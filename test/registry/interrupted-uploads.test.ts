// Uploads that break anywhere end with the right bytes, sending again no more than they must.
import { readdirSync, truncateSync } from 'node:fs';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { DirRegistry } from '../../src/registry/dir-registry.ts';
import type { BlobWriter } from '../../src/registry/interface.ts';
import { RemoteRegistry } from '../../src/registry/remote-registry.ts';
import { serveRegistry } from '../../src/registry/serve-registry.ts';
import type { RegistryServer } from '../../src/registry/serve-registry.ts';
import { startDockerRegistry } from '../support/docker-registry.ts';
import { answerLost, halfAccepted, halfTaken, nth, unseen } from '../support/interrupted.ts';
import { content, failingStream, readAll, streamOf } from '../support/registry-content.ts';
import type { Content } from '../support/registry-content.ts';
import { RegistryFront } from '../support/registry-front.ts';
import type { Fault } from '../support/registry-front.ts';
import { peelMain, start, stop } from '../support/run.ts';
import { keptTempDir, tempDir } from '../support/tmp.ts';

const dir = keptTempDir();
const store = new DirRegistry(dir.path);
const chunk = 20_000;
let server: RegistryServer;
let front: RegistryFront;
let registry: RemoteRegistry;
const quick = { timer: { random: () => 0, sleep: async () => {} } };

beforeAll(async () => {
  server = await serveRegistry(store);
  front = await RegistryFront.start(server.host);
  registry = new RemoteRegistry({ host: front.host, ...quick });
});
const rules: (() => void)[] = [];
afterEach(() => {
  for (const remove of rules.splice(0)) remove();
  front.forget();
});
afterAll(async () => {
  await registry.close();
  await front.close();
  await server.close();
  dir[Symbol.dispose]();
});

const interfere = (match: Parameters<RegistryFront['interfere']>[0], fault: Fault) =>
  void rules.push(front.interfere(match, fault));

async function stored(url: string): Promise<number> {
  const id = Buffer.from(url.slice(url.lastIndexOf('/') + 1).replace(/\?.*/, ''), 'base64url').toString();
  const upload = await store.resumeBlob('a/b', id, undefined);
  await upload.close();
  return upload.size;
}

/** Half of the body lies in the store when the connections break. */
const half: Fault = (request, response, forward, ask) => {
  const url = request.url ?? '';
  const begin = async () => {
    const before = await stored(url);
    const inStore = async (bytes: number) => {
      while ((await stored(url)) !== before + bytes) await delay(1);
    };
    halfTaken(server.host, inStore)(request, response, forward, ask);
  };
  begin().catch(() => response.destroy());
};

const manners: readonly [string, Fault][] = [
  ['before the registry saw it', unseen],
  ['in the middle', half],
  ['after it, when the answer is lost', answerLost],
];

async function writeInChunks(writer: BlobWriter, blob: Content): Promise<void> {
  for (let at = 0; at < blob.bytes.length; at += chunk) await writer.write(blob.bytes.subarray(at, at + chunk));
  await writer.commit(blob.descriptor.digest);
}

const isStored = async (blob: Content) =>
  (await readAll(await store.getBlob('a/b', blob.descriptor.digest))).equals(blob.bytes);

describe('an upload in chunks', () => {
  describe.each(manners)('broken %s', (_, fault) => {
    it.each([0, 1, 2, 3])('goes on from what the registry has of chunk %s', async (at) => {
      const blob = content(4 * chunk);
      interfere(nth('PATCH', at), fault);
      await writeInChunks(await registry.pushBlobChunked('a/b', chunk), blob);
      expect(await isStored(blob)).toBe(true);
    });

    it('goes on when every chunk breaks once', async () => {
      const blob = content(4 * chunk + 77);
      let patches = 0;
      interfere(({ method }) => method === 'PATCH' && patches++ % 2 === 0, fault);
      await writeInChunks(await registry.pushBlobChunked('a/b', chunk), blob);
      expect(await isStored(blob)).toBe(true);
      // What was stored is not sent again.
      expect(patches).toBe(fault === answerLost ? 4 : 8);
    });

    it('goes on when its last request breaks', async () => {
      const blob = content(chunk + 77);
      interfere(nth('PUT', 0), fault);
      await writeInChunks(await registry.pushBlobChunked('a/b', chunk), blob);
      expect(await isStored(blob)).toBe(true);
    });

    it('goes on byte by byte, where 0-0 may mean one byte or none', async () => {
      const blob = content(3);
      let patches = 0;
      interfere(({ method }) => method === 'PATCH' && patches++ % 2 === 0, fault);
      const writer = await registry.pushBlobChunked('a/b', 1);
      for (const byte of blob.bytes) await writer.write(Buffer.of(byte));
      await writer.commit(blob.descriptor.digest);
      expect(await isStored(blob)).toBe(true);
    });
  });

  it('sends the rest of a chunk of which the registry took a part', async () => {
    const blob = content(2 * chunk);
    let patches = 0;
    interfere(({ method }) => method === 'PATCH' && patches++ % 2 === 0, halfAccepted(server.host));
    await writeInChunks(await registry.pushBlobChunked('a/b', chunk), blob);
    expect(await isStored(blob)).toBe(true);
  });

  it('asks where it stands after a 416', async () => {
    const blob = content(2 * chunk);
    interfere(nth('PATCH', 1), (request, response) => {
      request.resume();
      response.writeHead(416).end();
    });
    await writeInChunks(await registry.pushBlobChunked('a/b', chunk), blob);
    expect(await isStored(blob)).toBe(true);
    expect(front.requests.map(({ method }) => method)).toEqual(['POST', 'PATCH', 'PATCH', 'GET', 'PATCH', 'PUT']);
  });

  it('keeps what it was given while the registry is away, and no more than that', async () => {
    const blob = content(4 * chunk);
    const writer = await registry.pushBlobChunked('a/b', chunk);
    await writer.write(blob.bytes.subarray(0, chunk));
    const back = front.interfere(() => true, unseen);
    for (let i = 0; i < 5; i += 1) {
      const piece = blob.bytes.subarray(writer.size, writer.size + chunk);
      await expect(writer.write(piece)).rejects.toMatchObject({ code: 'UNREACHABLE' });
      expect(writer.size).toBe(2 * chunk);
    }
    await expect(writer.close()).rejects.toMatchObject({ code: 'UNREACHABLE' });
    await expect(writer.commit(blob.descriptor.digest)).rejects.toMatchObject({ code: 'UNREACHABLE' });
    back();
    await writer.write(blob.bytes.subarray(writer.size));
    await writer.commit(blob.descriptor.digest);
    expect(await isStored(blob)).toBe(true);
  });

  it('gives up on a registry that has lost what it acknowledged', async () => {
    const blob = content(3 * chunk);
    const writer = await registry.pushBlobChunked('a/b', chunk);
    await writer.write(blob.bytes.subarray(0, chunk));
    const file = readdirSync(dir.path, { recursive: true, encoding: 'utf8' }).find((name) =>
      name.endsWith(Buffer.from(writer.id.slice(writer.id.lastIndexOf('/') + 1), 'base64url').toString()),
    );
    truncateSync(`${dir.path}/${file}`, 5);
    await expect(writer.write(blob.bytes.subarray(chunk))).rejects.toMatchObject({
      code: 'BLOB_UPLOAD_INVALID',
      message: expect.stringContaining('stands at 5 bytes instead of between 20000 and 60000'),
    });
    await writer.cancel();
  });
});

describe('the push of a blob', () => {
  const blob = content(160_000);
  const push = (of: Content, from = registry) => from.pushBlob('a/b', of.descriptor, () => streamOf(of.bytes, 7_001));

  it.each(manners)('broken %s sends the rest only', async (_, fault) => {
    const other = content(160_000);
    interfere(nth('PUT', 0), fault);
    await push(other);
    expect(await isStored(other)).toBe(true);
    const again = front.requests.filter(({ method }) => method === 'PUT')[1];
    expect([undefined, '80000-159999']).toContain(again?.headers['content-range']);
    expect(again?.headers['content-range'] === undefined).toBe(fault !== half);
    expect(front.requests.filter(({ method }) => method === 'POST')).toHaveLength(1);
  });

  it('begins anew when what was continued is not the blob', async () => {
    const other = content(160_000);
    interfere(nth('PUT', 0), (request, ...rest) => {
      void fetch(`http://${server.host}${request.url?.replace(/\?.*/, '')}`, {
        method: 'PATCH',
        headers: { 'content-range': '0-3' },
        body: 'evil',
      }).then(() => unseen(request, ...rest));
    });
    await push(other);
    expect(await isStored(other)).toBe(true);
    expect(front.requests.filter(({ method }) => method === 'POST')).toHaveLength(2);
  });

  it('begins anew when its session is gone', async () => {
    const other = content(160_000);
    interfere(nth('PUT', 0), (request, ...rest) => {
      void fetch(`http://${server.host}${request.url?.replace(/\?.*/, '')}`, { method: 'DELETE' }).then(() =>
        unseen(request, ...rest),
      );
    });
    await push(other);
    expect(await isStored(other)).toBe(true);
  });

  it('ends its session when the content fails, and when it is aborted', async () => {
    const broken = () => failingStream(blob.bytes.subarray(0, 1_000), new Error('the disk is on fire'));
    await expect(registry.pushBlob('a/b', blob.descriptor, broken)).rejects.toThrow('the disk is on fire');
    expect(front.requests.at(-1)?.method).toBe('DELETE');
    const controller = new AbortController();
    interfere(nth('PUT', 0), (request) => {
      request.resume();
      controller.abort(new Error('stop'));
    });
    const options = { signal: controller.signal };
    await expect(registry.pushBlob('a/b', blob.descriptor, () => streamOf(blob.bytes), options)).rejects.toThrow(
      'stop',
    );
    expect(front.requests.at(-1)?.method).toBe('DELETE');
  });

  it.each(['unseen', 'answerLost'] as const)(
    'reaches a registry that cannot continue sessions (%s)',
    async (manner) => {
      const docker = await startDockerRegistry();
      const before = await RegistryFront.start(docker.host);
      const client = new RemoteRegistry({ host: before.host, ...quick });
      try {
        before.interfere(nth('PUT', 0), { unseen, answerLost }[manner]);
        before.interfere(nth('PATCH', 1), { unseen, answerLost }[manner]);
        await push(blob, client);
        expect((await readAll(await client.getBlob('a/b', blob.descriptor.digest))).equals(blob.bytes)).toBe(true);
      } finally {
        await client.close();
        await before.close();
        await docker.close();
      }
    },
  );
});

describe('the embedded server', () => {
  it.each([1, 10_000, 65_536, 100_000])('keeps the %s bytes that came before a client died', async (sent) => {
    const blob = content(150_000);
    const writer = await registry.pushBlobChunked('a/b', 1);
    const { pathname } = new URL(writer.id);
    const socket = connect(server.port, '127.0.0.1');
    socket.write(`PATCH ${pathname} HTTP/1.1\r\nHost: x\r\nContent-Length: 150000\r\n\r\n`);
    socket.write(blob.bytes.subarray(0, sent));
    while ((await stored(pathname)) < sent) await delay(1);
    socket.resetAndDestroy();
    // From a single byte nobody can tell how far it got without knowing.
    const resumed = await registry.resumeBlob('a/b', writer.id, sent === 1 ? 1 : undefined);
    expect(resumed.size).toBe(sent);
    await resumed.write(blob.bytes.subarray(sent));
    await resumed.commit(blob.descriptor.digest);
    expect(await isStored(blob)).toBe(true);
  });

  it('continues uploads when it is killed and started again, ten times in one blob', async () => {
    const root = tempDir();
    const blob = content(10 * 300_000);
    const serve = async (listen: string) => {
      const args = [peelMain, 'registry', 'serve', '--root', root, '--listen', listen];
      const { child, line } = await start(process.execPath, args, /serving/);
      return { child, host: /http:\/\/(\S+)/.exec(line)?.[1] ?? '' };
    };
    let serving = await serve('127.0.0.1:0');
    const { host } = serving;
    const client = new RemoteRegistry({ host, ...quick });
    const writer = await client.pushBlobChunked('a/b', 100_000);
    for (let round = 1; round <= 10; round += 1) {
      const child = serving.child;
      const killed = delay(round % 3).then(() => child.kill('SIGKILL'));
      while (writer.size < round * 300_000) {
        const rest = blob.bytes.subarray(writer.size, Math.min(writer.size + 50_000, round * 300_000));
        await writer.write(rest).catch(async () => {
          await killed;
          await stop(child);
          if (serving.child === child) serving = await serve(host);
        });
      }
      await killed;
      await stop(child);
      if (serving.child === child) serving = await serve(host);
    }
    await writer.commit(blob.descriptor.digest);
    expect((await readAll(await client.getBlob('a/b', blob.descriptor.digest))).equals(blob.bytes)).toBe(true);
    await client.close();
  });
});

it('a registry that wants absurdly large chunks does not fill the memory', async () => {
  interfere(
    ({ method }) => method !== 'PUT',
    ({ url = '' }, response) => {
      const headers = { location: url.replace(/uploads\/.*/, 'uploads/1'), 'oci-chunk-min-length': 2 ** 53 - 1 };
      response.writeHead(202, headers).end();
    },
  );
  const writer = await registry.pushBlobChunked('a/b', chunk);
  expect(writer.chunkSize).toBeLessThanOrEqual(64 * 1024 * 1024);
});
