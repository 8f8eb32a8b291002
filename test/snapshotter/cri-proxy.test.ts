// What the image endpoint hands on, in front of a server that does what containerd does not do on demand.
import { createServer } from 'node:net';
import path from 'node:path';
import { create, toBinary } from '@bufbuild/protobuf';
import { Metadata, Server, ServerCredentials, status } from '@grpc/grpc-js';
import type { ServerUnaryCall, ServerWritableStream, sendUnaryData } from '@grpc/grpc-js';
import { describe, expect, it, onTestFinished } from 'vitest';
import { silentLog } from '../../src/observe/log.ts';
import type { Credentials } from '../../src/registry/auth/credentials.ts';
import { serveCriProxy } from '../../src/snapshotter/cri/cri-proxy.ts';
import * as cri from '../../src/snapshotter/gen/cri/api_pb.ts';
import { Deferred } from '../../src/util/deferred.ts';
import { GrpcClient } from '../support/grpc-call.ts';
import { tempDir } from '../support/tmp.ts';

type Unary = (call: ServerUnaryCall<Buffer, Buffer>, answer: sendUnaryData<Buffer>) => void;

const identity = (value: Buffer) => value;
const method = (name: string, responseStream = false) => ({
  path: `/runtime.v1.ImageService/${name}`,
  requestStream: false,
  responseStream,
  requestSerialize: identity,
  requestDeserialize: identity,
  responseSerialize: identity,
  responseDeserialize: identity,
});

/** A gRPC server whose methods take and give bytes, and the endpoint in front of it. */
async function world(
  unary: Readonly<Record<string, Unary>>,
  streams: Readonly<Record<string, (call: ServerWritableStream<Buffer, Buffer>) => void>> = {},
  remember: (image: string, credentials: Credentials) => Promise<void> = async () => {},
) {
  const dir = tempDir();
  const server = new Server();
  for (const [name, handle] of Object.entries(unary)) server.addService({ [name]: method(name) }, { [name]: handle });
  for (const [name, handle] of Object.entries(streams))
    server.addService({ [name]: method(name, true) }, { [name]: handle });
  const upstream = path.join(dir, 'upstream.sock');
  await new Promise<void>((resolve, reject) =>
    server.bindAsync(`unix:${upstream}`, ServerCredentials.createInsecure(), (error) =>
      error === null ? resolve() : reject(error),
    ),
  );
  const socket = path.join(dir, 'image.sock');
  const proxy = await serveCriProxy({ address: { path: socket }, upstream, remember, log: silentLog() });
  onTestFinished(async () => {
    await proxy.close();
    server.forceShutdown();
  });
  return { client: new GrpcClient(socket), socket };
}

const echo: Unary = (call, answer) => answer(null, call.request);

function pullRequest(image: string): Uint8Array {
  return toBinary(
    cri.PullImageRequestSchema,
    create(cri.PullImageRequestSchema, { image: { image }, auth: { username: 'ann', password: 'secret' } }),
  );
}

describe('the image endpoint', () => {
  it('hands bytes on that it does not understand, in methods that it does not know', async () => {
    const { client } = await world({ PullImage: echo, FromTheFuture: echo });
    // Field 1000, which no version has.
    const request = Buffer.concat([pullRequest('r.io/a:1'), Buffer.from([0xc2, 0x3e, 3, 1, 2, 3])]);
    expect((await client.raw('/runtime.v1.ImageService/PullImage', request)).bytes).toEqual(request);
    const large = Buffer.alloc(3 << 20, 7);
    expect((await client.raw('/runtime.v1.ImageService/FromTheFuture', large)).bytes).toEqual(large);
    expect((await client.raw('/runtime.v1.ImageService/PullImage', Buffer.from('garbage'))).bytes).toEqual(
      Buffer.from('garbage'),
    );
    expect((await client.raw('/runtime.v1.ImageService/PullImage', Buffer.alloc(0))).bytes).toEqual(Buffer.alloc(0));
    await expect(client.raw('/runtime.v1.ImageService/Nothing', Buffer.alloc(0))).rejects.toMatchObject({
      code: status.UNIMPLEMENTED,
    });
  });

  it('hands on what comes with a call and with its end', async () => {
    const { client } = await world({
      ImageStatus: (call, answer) => {
        const trailer = new Metadata();
        trailer.set('said', call.metadata.get('ask')[0] ?? '');
        trailer.set('hops-bin', Buffer.from([0, 255]));
        call.sendMetadata(new Metadata());
        answer(null, Buffer.from('ok'), trailer);
      },
      RemoveImage: (_call, answer) => {
        const metadata = new Metadata();
        metadata.set('grpc-status-details-bin', Buffer.from([8, 5, 18, 1, 120]));
        answer({ code: status.NOT_FOUND, details: 'image "ä%/b" not found', metadata });
      },
    });
    const { bytes, trailer } = await client.raw('/runtime.v1.ImageService/ImageStatus', Buffer.alloc(0), {
      metadata: { ask: 'this' },
    });
    expect(bytes.toString()).toBe('ok');
    expect(trailer.get('said')).toEqual(['this']);
    expect(trailer.get('hops-bin')).toEqual([Buffer.from([0, 255])]);
    const error = (await client
      .raw('/runtime.v1.ImageService/RemoveImage', Buffer.alloc(0))
      .catch((failure: unknown) => failure)) as { code: number; details: string; metadata: Metadata };
    expect(error).toMatchObject({ code: status.NOT_FOUND, details: 'image "ä%/b" not found' });
    expect(error.metadata.get('grpc-status-details-bin')).toEqual([Buffer.from([8, 5, 18, 1, 120])]);
  });

  it('hands on streams', async () => {
    const pieces = Array.from({ length: 40 }, (_, i) => Buffer.alloc(100_000, i));
    const { client } = await world(
      {},
      {
        StreamImages: (call) => {
          for (const piece of pieces) call.write(piece);
          call.end();
        },
      },
    );
    expect(await client.stream('/runtime.v1.ImageService/StreamImages', Buffer.alloc(0))).toEqual(pieces);
  });

  it('ends a call when the caller does, and by its deadline', async () => {
    const deadline = new Deferred<boolean>();
    const cancelled = new Deferred<void>();
    const started = new Deferred<void>();
    const { client } = await world({
      PullImage: (call) => {
        started.resolve();
        call.on('cancelled', () => cancelled.resolve());
      },
      ListImages: (call) => deadline.resolve(Number.isFinite(Number(call.getDeadline()))),
    });
    let cancel = () => {};
    const call = client.raw('/runtime.v1.ImageService/PullImage', pullRequest('r.io/a:1'), {
      onStart: (how) => (cancel = how),
    });
    const ended = expect(call).rejects.toMatchObject({ code: status.CANCELLED });
    await started.promise;
    cancel();
    await ended;
    await cancelled.promise;
    await expect(
      client.raw('/runtime.v1.ImageService/ListImages', Buffer.alloc(0), { options: { deadline: Date.now() + 300 } }),
    ).rejects.toMatchObject({ code: status.DEADLINE_EXCEEDED });
    expect(await deadline.promise).toBe(true);
  });

  it('remembers before it hands on, and hands on although remembering fails', async () => {
    const order: string[] = [];
    const { client } = await world(
      {
        PullImage: (_call, answer) => {
          order.push('pulled');
          answer(null, Buffer.alloc(0));
        },
      },
      {},
      async (image, credentials) => {
        await new Promise((resolve) => setImmediate(resolve));
        order.push(`${image} ${credentials.kind}`);
        throw new Error('no');
      },
    );
    await client.raw('/runtime.v1.ImageService/PullImage', pullRequest('r.io/a:1'));
    expect(order).toEqual(['r.io/a:1 password', 'pulled']);
  });

  it('serves nothing else of what listens behind it', async () => {
    const { client } = await world({ ListImages: echo });
    for (const name of [
      '/containerd.services.content.v1.Content/List',
      '/runtime.v1.RuntimeService/Exec',
      '/runtime.v1.ImageService/../x',
      '/',
    ])
      await expect(client.raw(name, Buffer.alloc(0))).rejects.toMatchObject({
        code: status.UNIMPLEMENTED,
        details: `peel's image endpoint does not serve ${name}`,
      });
  });

  it('says so when what listens behind it speaks something else, or hangs up', async () => {
    const dir = tempDir();
    const upstream = path.join(dir, 'other.sock');
    const other = createServer((connection) => {
      connection
        .on('error', () => {})
        .resume()
        .end('220 mail\r\n');
    });
    await new Promise<void>((resolve) => void other.listen(upstream, resolve));
    const socket = path.join(dir, 'image.sock');
    const proxy = await serveCriProxy({
      address: { path: socket },
      upstream,
      remember: async () => {},
      log: silentLog(),
    });
    onTestFinished(async () => {
      await proxy.close();
      await new Promise((resolve) => other.close(resolve));
    });
    await expect(
      new GrpcClient(socket).raw('/runtime.v1.ImageService/ListImages', Buffer.alloc(0)),
    ).rejects.toMatchObject({ code: status.UNAVAILABLE });
  });
});
