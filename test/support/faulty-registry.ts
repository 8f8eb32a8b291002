// A RegistryFront with one fault at a time, for tests that change it as they go.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { ServerOptions } from 'node:https';
import { RegistryFront } from './registry-front.ts';

/** Answers (or cuts) the request itself and returns true, or returns false to have it passed on unharmed. */
export type Fault = (request: IncomingMessage, response: ServerResponse) => boolean | Promise<boolean>;

export interface FaultyRegistry {
  readonly host: string;
  readonly url: string;
  /** What was asked, in order: `GET /v2/...`. */
  readonly requests: readonly string[];
  /** The headers of the same requests. */
  readonly headers: readonly IncomingMessage['headers'][];
  fault: Fault;
  close(): Promise<void>;
}

/** `upstream` is the URL of the registry. */
export async function startFaultyRegistry(
  upstream: string | undefined,
  fault: Fault = () => false,
  tls?: ServerOptions,
): Promise<FaultyRegistry> {
  const front = await RegistryFront.start(upstream === undefined ? undefined : new URL(upstream).host, tls);
  const faulty: FaultyRegistry = {
    host: front.host,
    url: `${tls === undefined ? 'http' : 'https'}://${front.host}`,
    get requests() {
      return front.requests.map(({ method, path }) => `${method} ${path}`);
    },
    get headers() {
      return front.requests.map(({ headers }) => headers);
    },
    fault,
    close: () => front.close(),
  };
  const decide = async (request: IncomingMessage, response: ServerResponse, forward: () => void): Promise<void> => {
    if (!(await faulty.fault(request, response))) forward();
  };
  front.interfere(
    () => true,
    (request, response, forward) =>
      void decide(request, response, forward).catch(() => {
        response.destroy();
      }),
  );
  return faulty;
}

/** Applies `fault` to the first `times` requests that match `pattern` (`GET /v2/.../blobs/`), and to no others. */
export function firstTimes(times: number, pattern: RegExp, fault: Fault): Fault {
  let left = times;
  return async (request, response) => {
    if (left === 0 || !pattern.test(`${request.method} ${request.url}`)) return false;
    left -= 1;
    return await fault(request, response);
  };
}
