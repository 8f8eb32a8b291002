// Requests that break while their body is under way, for uploads that have to be continued.
import { once } from 'node:events';
import { request as httpRequest } from 'node:http';
import type { IncomingMessage } from 'node:http';
import type { Fault } from './registry-front.ts';

/** Nothing of it reaches the registry. */
export const unseen: Fault = (request) => void request.socket.destroy();

/** The registry does what it is asked, and its answer is lost. */
export const answerLost: Fault = (_request, response, _forward, ask) =>
  void ask().then(
    () => response.destroy(),
    () => response.destroy(),
  );

/** The registry at `host` has taken half of the body, of which `taken` tells, when both connections break. */
export function halfTaken(host: string, taken: (bytes: number) => Promise<void>): Fault {
  return (request) =>
    void (async () => {
      const body = await bodyOf(request);
      const upstream = httpRequest(`http://${host}${request.url}`, {
        method: request.method,
        headers: request.headers,
      });
      upstream.on('error', () => {});
      upstream.write(body.subarray(0, body.length >> 1));
      await taken(body.length >> 1);
      upstream.destroy();
      request.socket.destroy();
    })();
}

/** The registry takes the first half of a chunk and says so. */
export function halfAccepted(host: string): Fault {
  return (request, response) =>
    void (async () => {
      const body = await bodyOf(request);
      const half = body.subarray(0, body.length >> 1);
      const start = Number(/^\d+/.exec(String(request.headers['content-range']))?.[0]);
      const range = `${start}-${start + half.length - 1}`;
      const headers = { ...request.headers, 'content-length': half.length, 'content-range': range };
      const upstream = httpRequest(`http://${host}${request.url}`, { method: request.method, headers }).end(half);
      const [answer] = (await once(upstream, 'response')) as [IncomingMessage];
      answer.resume();
      response.writeHead(answer.statusCode ?? 500, answer.headers).end();
    })();
}

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** A rule that meets the `at`-th request of `method`, counted from 0. */
export function nth(method: string, at: number): (request: IncomingMessage) => boolean {
  let seen = 0;
  return (request) => request.method === method && seen++ === at;
}
