// One gRPC call handed on as it is: at the level of HTTP/2 nothing of it is lost that a newer version may have added, be it a field, a
// method, metadata, a deadline or the details of a status.
import { constants } from 'node:http2';
import type {
  ClientHttp2Session,
  ClientHttp2Stream,
  IncomingHttpHeaders,
  OutgoingHttpHeaders,
  ServerHttp2Stream,
} from 'node:http2';

const endStream = 1;

export interface ForwardedCall {
  readonly headers: IncomingHttpHeaders;
  /** What was read of the request already. */
  readonly head: Buffer;
  /** Whether there is nothing after it. */
  readonly ended: boolean;
}

/** `lost`: answers in place of an upstream that has not answered. Does not wait. */
export function forwardCall(
  session: ClientHttp2Session,
  stream: ServerHttp2Stream,
  call: ForwardedCall,
  lost: (why: string) => void,
): void {
  const upstream = session.request({ ...plainHeaders(call.headers), ':authority': 'localhost' }, { endStream: false });
  let trailers: IncomingHttpHeaders | undefined;
  upstream.once('trailers', (received: IncomingHttpHeaders) => (trailers = received));
  upstream.once('response', (headers, flags) => {
    if (stream.destroyed || stream.headersSent) return;
    if ((flags & endStream) !== 0) {
      stream.respond(outgoing(headers), { endStream: true });
      return;
    }
    stream.respond(outgoing(headers), { waitForTrailers: true });
    stream.once('wantTrailers', () => {
      if (trailers === undefined) stream.close(constants.NGHTTP2_INTERNAL_ERROR);
      else stream.sendTrailers(outgoing(trailers));
    });
    upstream.pipe(stream);
  });
  upstream.on('error', () => undefined);
  upstream.once('close', () => {
    if (stream.destroyed || stream.writableEnded) return;
    const code = upstream.rstCode ?? constants.NGHTTP2_NO_ERROR;
    if (!stream.headersSent) lost('the connection was lost');
    else if (code !== constants.NGHTTP2_NO_ERROR || trailers === undefined)
      stream.close(code || constants.NGHTTP2_CANCEL);
  });
  stream.once('close', () => {
    if (!upstream.closed && !upstream.destroyed) upstream.close(constants.NGHTTP2_CANCEL);
  });
  sendBody(stream, upstream, call);
}

function sendBody(stream: ServerHttp2Stream, upstream: ClientHttp2Stream, { head, ended }: ForwardedCall): void {
  if (ended) {
    upstream.end(head);
    return;
  }
  if (head.byteLength > 0) upstream.write(head);
  stream.pipe(upstream);
}

/** Without the mark of sensitive ones, which is a symbol, and without what is said anew of each connection. */
function plainHeaders(headers: IncomingHttpHeaders): OutgoingHttpHeaders {
  const own = new Set(['host', 'connection', ':authority']);
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !own.has(name)));
}

function outgoing(headers: IncomingHttpHeaders): OutgoingHttpHeaders {
  return Object.fromEntries(Object.entries(headers));
}
