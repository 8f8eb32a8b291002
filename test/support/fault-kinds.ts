// What a registry may do to any request, as a table: each kind with the ways in which a call may end that meets nothing else.
import { gzipSync } from 'node:zlib';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import type { RegistryErrorCode } from '../../src/registry/errors.ts';
import type { Fault, WholeAnswer } from './registry-front.ts';

export interface FaultKind {
  readonly name: string;
  /** Made anew for each run. */
  readonly make: () => Fault;
  /** How a call may fail that meets it every time. */
  readonly codes: readonly RegistryErrorCode[];
  /** Which calls must fail that meet it every time: all, those that read a body, those that read a range, or none for certain. */
  readonly spoils: 'all' | 'bodies' | 'ranges' | 'none';
  /** Whether a call that meets it once gets what it asked for all the same. */
  readonly passes: boolean;
  /** The client's time limits are what ends it. */
  readonly slow?: boolean;
  /** It answers 200 to everything, which a client cannot tell from the truth where it expects no more than that. */
  readonly lies?: boolean;
}

/** The answer of the registry, spoiled; one that has nothing to spoil is passed on as it is. */
function spoiled(spoil: (answer: WholeAnswer, response: ServerResponse, request: IncomingMessage) => boolean): Fault {
  return (request, response, _forward, ask) =>
    void ask().then(
      (answer) => {
        if (spoil(answer, response, request)) return;
        response.writeHead(answer.status, answer.headers).end(answer.body);
      },
      () => response.destroy(),
    );
}

const readable = ({ status, body }: WholeAnswer) => body.length > 1 && status < 300;

/** Another answer in place of a good one that has a body. */
const withBody = (change: (answer: WholeAnswer, request: IncomingMessage) => Partial<WholeAnswer>): Fault =>
  spoiled((answer, response, request) => {
    if (!readable(answer)) return false;
    const { status, headers, body } = { ...answer, ...change(answer, request) };
    response.writeHead(status, headers).end(body);
    return true;
  });

/** What follows a good head with a body. */
const inBody = (then: (answer: WholeAnswer, response: ServerResponse) => void): Fault =>
  spoiled((answer, response) => {
    if (!readable(answer)) return false;
    response.writeHead(answer.status, answer.headers);
    response.write(answer.body.subarray(0, answer.body.length >> 1), () => then(answer, response));
    return true;
  });

const inRange = (change: (range: { start: number; end: number; total: number }, answer: WholeAnswer) => WholeAnswer) =>
  withBody((answer) => {
    const [, first, last, total] = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(String(answer.headers['content-range'])) ?? [];
    if (answer.status !== 206) return {};
    return change({ start: Number(first), end: Number(last) + 1, total: Number(total) }, answer);
  });

const ranged = (answer: WholeAnswer, start: number, end: number, total: number): WholeAnswer => ({
  ...answer,
  headers: { ...answer.headers, 'content-range': `bytes ${start}-${end - 1}/${total}`, 'content-length': end - start },
  body: Buffer.alloc(end - start, 7),
});

function withoutLength(headers: WholeAnswer['headers']): WholeAnswer['headers'] {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => name !== 'content-length'));
}

/** Bytes that are no work of the HTTP server's. The request's body is read, so that the client listens. */
function raw(write: (socket: Socket) => void): Fault {
  return (request) => {
    request.resume();
    request.once('end', () => write(request.socket));
  };
}

/** Until the client hangs up, at its pace. */
async function endlessly(target: Socket | ServerResponse, chunk: (n: number) => string | Uint8Array): Promise<void> {
  const gone = new Promise<void>((resolve) => {
    target.once('close', () => resolve());
    target.once('error', () => resolve());
  });
  for (let n = 0; !target.destroyed; n += 1) {
    if (target.write(chunk(n))) await turn();
    else await Promise.race([gone, new Promise<void>((resolve) => void target.once('drain', () => resolve()))]);
  }
}

function endless(headers: Record<string, string | number>, first: string, chunk: (n: number) => string): () => Fault {
  return () => (request, response) => {
    request.resume();
    response.writeHead(200, headers);
    if (request.method === 'HEAD') {
      response.end();
      return;
    }
    response.write(first);
    void endlessly(response, chunk);
  };
}

const answer =
  (status: number, headers: Record<string, string>, text = ''): (() => Fault) =>
  () =>
  (request, response) => {
    request.resume();
    request.once('end', () => response.writeHead(status, headers).end(text));
  };

const json = { 'content-type': 'application/json' };
const megabyte = 'x'.repeat(1 << 20);

export const faultKinds: readonly FaultKind[] = [
  {
    name: 'drops the connection at once',
    make: () => (request) => void request.socket.destroy(),
    codes: ['UNREACHABLE'],
    spoils: 'all',
    passes: true,
  },
  {
    name: 'drops it within the head',
    make: () => raw((socket) => socket.end('HTTP/1.1 200 OK\r\ncontent-le')),
    codes: ['UNREACHABLE', 'RESPONSE_INVALID'],
    spoils: 'all',
    passes: true,
  },
  {
    name: 'drops it within the body',
    make: () => inBody((_, response) => response.destroy()),
    codes: ['TRUNCATED'],
    spoils: 'bodies',
    passes: true,
  },
  {
    name: 'does what it is asked and drops the answer',
    make: () => spoiled((_, response) => (response.destroy(), true)),
    codes: ['UNREACHABLE', 'BLOB_UNKNOWN', 'MANIFEST_UNKNOWN', 'BLOB_UPLOAD_UNKNOWN', 'BLOB_UPLOAD_INVALID'],
    spoils: 'none',
    passes: true,
  },
  {
    name: 'never answers',
    make: () => (request) => void request.resume(),
    codes: ['TIMEOUT'],
    spoils: 'all',
    passes: true,
    slow: true,
  },
  {
    name: 'never takes the body of the request',
    make: () => (request) => void request.pause(),
    codes: ['TIMEOUT'],
    spoils: 'all',
    passes: true,
    slow: true,
  },
  {
    name: 'stalls within the head',
    make: () => raw((socket) => void socket.write('HTTP/1.1 200 OK\r\ncontent-le')),
    codes: ['TIMEOUT'],
    spoils: 'all',
    passes: true,
    slow: true,
  },
  {
    name: 'stalls within the body',
    make: () => inBody(() => {}),
    codes: ['TIMEOUT'],
    spoils: 'bodies',
    passes: true,
    slow: true,
  },
  {
    name: 'sends its head a byte at a time',
    make: () =>
      spoiled(({ status, headers, body }, _response, request) => {
        const { connection: _c, 'keep-alive': _k, 'transfer-encoding': _t, ...others } = headers;
        const lines = Object.entries(others).map(([name, value]) => `${name}: ${String(value)}\r\n`);
        const head = `HTTP/1.1 ${status} x\r\nconnection: close\r\n${lines.join('')}\r\n`;
        void (async () => {
          for (const byte of head) {
            request.socket.write(byte);
            await turn();
          }
          request.socket.end(body);
        })();
        return true;
      }),
    codes: [],
    spoils: 'none',
    passes: true,
  },
  {
    name: 'sends a head that never ends',
    make: () => raw((socket) => void endlessly(socket, (n) => `${n === 0 ? 'HTTP/1.1 200 OK\r\n' : ''}a${n}: b\r\n`)),
    codes: ['TOO_LARGE'],
    spoils: 'all',
    passes: false,
  },
  {
    name: 'sends huge headers',
    make: answer(200, { ...json, 'x-huge': 'x'.repeat(100_000) }, '{}'),
    codes: ['TOO_LARGE'],
    spoils: 'all',
    passes: false,
  },
  {
    name: 'sends informational answers without end',
    make: () =>
      raw((socket) => void endlessly(socket, () => 'HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n'.repeat(50))),
    codes: ['RESPONSE_INVALID'],
    spoils: 'all',
    passes: false,
  },
  {
    name: 'sends some informational answers first',
    make: () =>
      spoiled((_, response) => {
        for (let n = 0; n < 20; n += 1) response.writeEarlyHints({ link: '</x>; rel=preload' });
        return false;
      }),
    codes: [],
    spoils: 'none',
    passes: true,
  },
  {
    name: 'sends bytes after its answer',
    make: () =>
      spoiled((whole, response, request) => {
        response.writeHead(whole.status, whole.headers);
        response.end(whole.body, () => void request.socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}'));
        return true;
      }),
    codes: ['RESPONSE_INVALID', 'UNREACHABLE', 'TRUNCATED'],
    spoils: 'none',
    passes: true,
  },
  {
    name: 'speaks something else',
    make: () => raw((socket) => void socket.end('SSH-2.0-OpenSSH_9.2\r\n\r\n')),
    codes: ['RESPONSE_INVALID'],
    spoils: 'all',
    passes: false,
  },
  {
    name: 'sends a shorter body with its length',
    make: () =>
      withBody(({ headers, body }) => ({
        headers: { ...headers, 'content-length': body.length - 1 },
        body: body.subarray(0, -1),
      })),
    codes: ['RESPONSE_INVALID', 'DIGEST_INVALID', 'SIZE_INVALID', 'RANGE_INVALID', 'TRUNCATED'],
    spoils: 'bodies',
    passes: false,
  },
  {
    name: 'sends a shorter body without a length',
    make: () => withBody(({ headers, body }) => ({ headers: withoutLength(headers), body: body.subarray(0, -1) })),
    codes: ['RESPONSE_INVALID', 'DIGEST_INVALID', 'SIZE_INVALID', 'TRUNCATED'],
    spoils: 'none',
    passes: false,
  },
  {
    name: 'sends a longer body',
    make: () =>
      withBody(({ headers, body }) => ({
        headers: withoutLength(headers),
        body: Buffer.concat([body, Buffer.from('}')]),
      })),
    codes: ['RESPONSE_INVALID', 'DIGEST_INVALID', 'SIZE_INVALID'],
    spoils: 'bodies',
    passes: false,
  },
  {
    name: 'changes a byte',
    make: () =>
      withBody(({ body }) => {
        const other = Buffer.from(body);
        other[body.length >> 1] = (other[body.length >> 1] ?? 0) ^ 0x80;
        return { body: other };
      }),
    codes: ['DIGEST_INVALID', 'RESPONSE_INVALID'],
    spoils: 'none',
    passes: false,
  },
  {
    name: 'says another digest',
    make: () =>
      spoiled((whole, response) => {
        if (whole.headers['docker-content-digest'] === undefined) return false;
        const headers = { ...whole.headers, 'docker-content-digest': `sha256:${'0'.repeat(64)}` };
        response.writeHead(whole.status, headers).end(whole.body);
        return true;
      }),
    codes: ['DIGEST_INVALID'],
    spoils: 'none',
    passes: false,
  },
  {
    name: 'compresses what it sends',
    make: () =>
      withBody(({ headers, body }) => {
        const packed = gzipSync(body);
        return { headers: { ...headers, 'content-encoding': 'gzip', 'content-length': packed.length }, body: packed };
      }),
    codes: ['RESPONSE_INVALID', 'RANGE_INVALID'],
    spoils: 'bodies',
    passes: false,
  },
  {
    name: 'sends a web page',
    make: answer(200, { 'content-type': 'text/html' }, '<html><body>Please sign in</body></html>'),
    codes: ['RESPONSE_INVALID', 'DIGEST_INVALID', 'SIZE_INVALID', 'RANGE_INVALID', 'TRUNCATED'],
    spoils: 'bodies',
    passes: false,
    lies: true,
  },
  {
    name: 'sends json of another shape',
    make: answer(200, json, '{"tags":{},"repositories":7,"manifests":"x","errors":[[]]}'),
    codes: ['RESPONSE_INVALID', 'DIGEST_INVALID', 'SIZE_INVALID', 'RANGE_INVALID', 'TRUNCATED'],
    spoils: 'bodies',
    passes: false,
    lies: true,
  },
  {
    name: 'sends a body of 10 GB',
    make: endless(
      { 'content-type': 'application/vnd.oci.image.manifest.v1+json', 'content-length': 1e10 },
      '{',
      () => megabyte,
    ),
    codes: ['TOO_LARGE', 'RESPONSE_INVALID', 'SIZE_INVALID', 'DIGEST_INVALID'],
    spoils: 'bodies',
    passes: false,
    lies: true,
  },
  {
    name: 'sends a list that never ends',
    make: endless(json, '{"tags":["a"', (n) => `,"${n}${'x'.repeat(60_000)}"`),
    codes: ['TOO_LARGE', 'RESPONSE_INVALID', 'SIZE_INVALID', 'DIGEST_INVALID', 'TRUNCATED'],
    spoils: 'bodies',
    passes: false,
    lies: true,
  },
  {
    name: 'answers an error that never ends',
    make: () => (request, response) => {
      request.resume();
      response.writeHead(400, json);
      if (request.method === 'HEAD') response.end();
      else void endlessly(response, () => megabyte);
    },
    codes: ['UNKNOWN', 'RESPONSE_INVALID', 'TOO_LARGE'],
    spoils: 'none',
    passes: false,
  },
  ...(
    [
      ['a range further on', (r, a) => ranged(a, r.start + 1, r.end + 1, r.total)],
      ['a range before', (r, a) => ranged(a, r.start - 1, r.end, r.total)],
      ['a shorter range', (r, a) => ranged(a, r.start, r.end - 1, r.total)],
      ['a longer range', (r, a) => ranged(a, r.start, r.end + 1, r.total)],
      ['a range of another blob', (r, a) => ranged(a, r.start, r.end, r.start)],
      ['a range without saying which', (r, a) => ({ ...ranged(a, r.start, r.end, r.total), headers: {} })],
      [
        'a range that it words as nonsense',
        (r, a) => ({ ...a, headers: { ...a.headers, 'content-range': `${r.end}-${r.start}` } }),
      ],
    ] satisfies [string, Parameters<typeof inRange>[0]][]
  ).map(
    ([name, change]): FaultKind => ({
      name: `answers ${name}`,
      make: () => inRange(change),
      codes: ['RANGE_INVALID'],
      spoils: 'ranges',
      passes: false,
    }),
  ),
  {
    name: 'redirects to itself',
    make: () => (request, response) => {
      request.resume();
      response.writeHead(307, { location: request.url ?? '' }).end();
    },
    codes: ['RESPONSE_INVALID'],
    spoils: 'all',
    passes: true,
  },
  ...(
    [
      ['nowhere', 'http://['],
      ['a file', 'file:///etc/passwd'],
      ['another scheme', 'ftp://127.0.0.1/x'],
      ['a place without a location', undefined],
    ] satisfies [string, string | undefined][]
  ).map(
    ([name, location]): FaultKind => ({
      name: `redirects to ${name}`,
      make: answer(307, location === undefined ? {} : { location }),
      codes: ['RESPONSE_INVALID'],
      spoils: 'all',
      passes: false,
    }),
  ),
  {
    name: 'redirects to a host that is not there',
    make: answer(307, { location: 'http://127.0.0.1:1/v2/' }),
    codes: ['UNREACHABLE'],
    spoils: 'all',
    passes: true,
  },
  {
    name: 'lets the token expire',
    make: () => (request, response) => {
      request.resume();
      const realm = `http://${request.headers.host}/token`;
      request.once('end', () => response.writeHead(401, { 'www-authenticate': `Bearer realm="${realm}"` }).end());
    },
    codes: ['UNAUTHORIZED', 'DENIED'],
    spoils: 'all',
    passes: true,
  },
  {
    name: 'is overloaded for a minute',
    make: answer(503, { 'retry-after': '60' }),
    codes: ['UNAVAILABLE'],
    spoils: 'all',
    passes: false,
  },
  {
    name: 'wants to be left alone for a year',
    make: answer(429, { 'retry-after': '31536000' }),
    codes: ['TOOMANYREQUESTS'],
    spoils: 'all',
    passes: false,
  },
  {
    name: 'is overloaded for a moment',
    make: answer(429, { 'retry-after': '1' }),
    codes: ['TOOMANYREQUESTS'],
    spoils: 'all',
    passes: true,
  },
];
