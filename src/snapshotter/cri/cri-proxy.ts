// The image endpoint of a kubelet: hands every call on to containerd, and on the way learns what images are pulled with, which containerd
// does not tell its snapshotters.
import { constants, createServer } from 'node:http2';
import type { IncomingHttpHeaders, ServerHttp2Session, ServerHttp2Stream } from 'node:http2';
import type { Logger } from '../../observe/log.ts';
import type { Credentials } from '../../registry/auth/credentials.ts';
import { listenUnix } from '../../util/listen-unix.ts';
import type { UnixAddress } from '../../util/listen-unix.ts';
import { forwardCall } from './forward-call.ts';
import { Upstream } from './upstream.ts';

export interface CriProxyOptions {
  readonly address: UnixAddress;
  /** containerd's socket. */
  readonly upstream: string;
  /** Told before the pull is handed on, which waits for it. A failure is logged. */
  readonly remember: (image: string, credentials: Credentials) => Promise<void>;
  readonly log: Logger;
}

export interface CriProxy {
  /** Ends calls that are under way. Idempotent. */
  close(): Promise<void>;
}

/** What a kubelet asks of an image endpoint. The rest of containerd's API is not for this socket. */
const served = /^\/runtime\.v1(?:alpha2)?\.(?:ImageService\/\w+|RuntimeService\/(?:Version|Status))$/;
const pull = /^\/runtime\.v1(?:alpha2)?\.ImageService\/PullImage$/;
/** A larger one is handed on without looking into it; the pod's annotations that it carries have 256 KiB at most. */
const maxPullBytes = 4 * 1024 * 1024;
const statusUnimplemented = 12;
const statusUnavailable = 14;

/** Errors: as `listenUnix`. */
export async function serveCriProxy(options: CriProxyOptions): Promise<CriProxy> {
  const { address, log } = options;
  const upstream = new Upstream(options.upstream);
  const server = createServer();
  const sessions = new Set<ServerHttp2Session>();
  server.on('session', (session) => {
    sessions.add(session);
    session.on('error', () => undefined).once('close', () => sessions.delete(session));
  });
  server.on('stream', (stream, headers) => {
    stream.on('error', () => undefined);
    answer(stream, headers, upstream, options).catch((error: unknown) => {
      log.error({ err: error }, 'a call could not be handed on');
      stream.close(constants.NGHTTP2_INTERNAL_ERROR);
    });
  });
  await listenUnix(server, address);
  const close = async (): Promise<void> => {
    const closed = new Promise((resolve) => server.close(resolve));
    for (const session of sessions) session.destroy();
    await upstream.close();
    await closed;
  };
  let closing: Promise<void> | undefined;
  return { close: () => (closing ??= close()) };
}

async function answer(
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  upstream: Upstream,
  options: CriProxyOptions,
): Promise<void> {
  const path = headers[':path'] ?? '';
  if (!served.test(path)) {
    refuse(stream, statusUnimplemented, `peel's image endpoint does not serve ${path.slice(0, 200)}`);
    return;
  }
  const isPull = pull.test(path);
  const { head, ended } = isPull ? await readHead(stream) : { head: Buffer.alloc(0), ended: false };
  if (isPull && ended) await rememberPull(head, headers, options);
  const lost = (why: string) => {
    options.log.warn({ upstream: upstream.path, path }, `containerd does not answer: ${why}`);
    refuse(stream, statusUnavailable, `peel cannot reach containerd at ${upstream.path}: ${why}`);
  };
  try {
    const session = await upstream.session();
    if (!stream.destroyed) forwardCall(session, stream, { headers, head, ended }, lost);
  } catch (error) {
    lost((error as NodeJS.ErrnoException).code ?? (error as Error).message);
  }
}

/** The request as far as it is wanted. */
async function readHead(stream: ServerHttp2Stream): Promise<{ readonly head: Buffer; readonly ended: boolean }> {
  const chunks: Buffer[] = [];
  let size = 0;
  return await new Promise((resolve) => {
    const done = (ended: boolean) => {
      stream.off('data', onData).off('end', onEnd).off('close', onEnd);
      stream.pause();
      resolve({ head: Buffer.concat(chunks, size), ended });
    };
    const onEnd = () => done(true);
    const onData = (chunk: Buffer) => {
      chunks.push(chunk);
      size += chunk.byteLength;
      if (size > maxPullBytes) done(false);
    };
    stream.on('data', onData).once('end', onEnd).once('close', onEnd);
  });
}

async function rememberPull(body: Buffer, headers: IncomingHttpHeaders, options: CriProxyOptions): Promise<void> {
  const { remember, log } = options;
  try {
    const { pullSecretOf } = await import('./pull-request.ts');
    const encoding = headers['grpc-encoding'];
    const secret = pullSecretOf(body, typeof encoding === 'string' ? encoding : undefined, maxPullBytes);
    if (secret === undefined) return;
    await remember(secret.image, secret.credentials);
    log.debug({ image: secret.image }, 'the credentials of a pull are remembered');
  } catch (error) {
    log.debug({ err: error }, 'a pull is handed on without a look at its credentials');
  }
}

function refuse(stream: ServerHttp2Stream, status: number, message: string): void {
  if (stream.destroyed || stream.headersSent) return;
  stream.respond(
    {
      ':status': 200,
      'content-type': 'application/grpc',
      'grpc-status': String(status),
      // Percent-encoded as gRPC over HTTP/2 has it: only what is not printable ASCII, and the sign itself.
      'grpc-message': message.replaceAll(/[^\x20-\x24\x26-\x7e]/gu, encodeURIComponent),
    },
    { endStream: true },
  );
}
