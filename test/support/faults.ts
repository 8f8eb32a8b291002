// Ways in which a registry misbehaves, for RegistryFront.interfere.
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import type { Descriptor } from '../../src/oci/descriptor.ts';
import type { Fault, FaultRule } from './registry-front.ts';

export const forBlob =
  (digest: string): FaultRule['match'] =>
  (request) =>
    request.method === 'GET' && (request.url ?? '').includes(`/blobs/${digest}`);

export const forManifests: FaultRule['match'] = (request) => (request.url ?? '').includes('/manifests/');

export const everything: FaultRule['match'] = () => true;

/** An error as the distribution spec words it. */
export function answer(status: number, headers: OutgoingHttpHeaders = {}): Fault {
  return (_request, response) => {
    response.writeHead(status, { 'content-type': 'application/json', ...headers });
    response.end(JSON.stringify({ errors: [{ code: 'TEST', message: `the test says ${status}` }] }));
  };
}

export function body(status: number, text: string, headers: OutgoingHttpHeaders = {}): Fault {
  return (_request, response) => {
    response.writeHead(status, { 'content-length': Buffer.byteLength(text), ...headers });
    response.end(text);
  };
}

/** As if the registry had this manifest, at whatever path. */
export function serveManifest({ descriptor, bytes }: { descriptor: Descriptor; bytes: Uint8Array }): Fault {
  return (request, response) => {
    response.writeHead(200, {
      'content-type': descriptor.mediaType,
      'content-length': descriptor.size,
      'docker-content-digest': descriptor.digest,
    });
    response.end(request.method === 'HEAD' ? undefined : bytes);
  };
}

/** As if the registry had never heard of ranges: the whole blob with status 200. */
export const ignoreRange: Fault = (request, _response, forward) => {
  const { range: _range, ...headers } = request.headers;
  forward(headers);
};

/** Status 206 with a Content-Range that starts elsewhere, and as many bytes as were asked for. */
export const otherRange: Fault = (request, response) => {
  const { start, end } = rangeOf(request);
  const size = end - start;
  response.writeHead(206, { 'content-length': size, 'content-range': `bytes ${start + 1}-${end}/${end + 1000}` });
  response.end(Buffer.alloc(size));
};

/** Promises what was asked for, sends `after` bytes and drops the connection. */
export function closeEarly(after: number): Fault {
  return (request, response) => {
    const { start, end } = rangeOf(request);
    response.writeHead(request.headers.range === undefined ? 200 : 206, {
      'content-length': end - start,
      'content-range': `bytes ${start}-${end - 1}/${end + 1000}`,
    });
    response.write(Buffer.alloc(Math.min(after, end - start - 1)), () => response.destroy());
  };
}

/** Accepts requests and never answers; `release` drops what waits. */
export function stall(): { readonly fault: Fault; release(): void } {
  const waiting: ServerResponse[] = [];
  return {
    fault: (_request, response) => void waiting.push(response),
    release: () => {
      for (const response of waiting) response.destroy();
    },
  };
}

function rangeOf(request: IncomingMessage): { start: number; end: number } {
  const found = /bytes=(\d+)-(\d*)/.exec(request.headers.range ?? '');
  const start = Number(found?.[1] ?? 0);
  return { start, end: found?.[2] ? Number(found[2]) + 1 : start + 100_000 };
}
