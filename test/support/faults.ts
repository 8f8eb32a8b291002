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

/** Sends the blob, or the range of it that is asked for, up to byte `until` of the blob and drops the connection. */
export function breaksAt({ bytes }: { readonly bytes: Buffer }, until: number): Fault {
  return (request, response) => {
    const { start, end } = partOf(request, bytes.length);
    beginPart(request, response, bytes.length);
    response.flushHeaders();
    response.write(bytes.subarray(start, Math.max(start, Math.min(end, until))), () => response.destroy());
  };
}

/** Sends the blob, or the range of it that is asked for, up to byte `until` of the blob, and the rest after `release`. */
export function heldBack(
  { bytes }: { readonly bytes: Buffer },
  until: number,
): { readonly fault: Fault; release(): void } {
  const rests: (() => void)[] = [];
  return {
    fault: (request, response) => {
      const { start, end } = partOf(request, bytes.length);
      const middle = Math.max(start, Math.min(end, until));
      beginPart(request, response, bytes.length);
      response.flushHeaders();
      response.write(bytes.subarray(start, middle));
      rests.push(() => response.end(bytes.subarray(middle, end)));
    },
    release: () => {
      for (const rest of rests.splice(0)) rest();
    },
  };
}

/** Sends the blob, or the range of it that is asked for, up to the first of `stops`, and goes on to the next one with every `step`. */
export function stepwise(
  { bytes }: { readonly bytes: Buffer },
  stops: readonly number[],
): { readonly fault: Fault; step(): void } {
  const responses: (() => void)[] = [];
  let stop = 0;
  return {
    fault: (request, response) => {
      const { start, end } = partOf(request, bytes.length);
      let at = start;
      const send = (): void => {
        if (response.writableEnded) return;
        const until = Math.max(at, Math.min(end, stops[stop] ?? end));
        response.write(bytes.subarray(at, until));
        at = until;
        if (at === end) response.end();
      };
      beginPart(request, response, bytes.length);
      response.flushHeaders();
      send();
      responses.push(send);
    },
    step: () => {
      stop += 1;
      for (const send of responses) send();
    },
  };
}

function beginPart(request: IncomingMessage, response: ServerResponse, size: number): void {
  const { start, end } = partOf(request, size);
  const isPart = request.headers.range !== undefined;
  response.writeHead(isPart ? 206 : 200, {
    'content-length': end - start,
    ...(isPart ? { 'content-range': `bytes ${start}-${end - 1}/${size}` } : {}),
  });
}

function partOf(request: IncomingMessage, size: number): { start: number; end: number } {
  const [, first = '0', last = ''] = /bytes=(\d+)-(\d*)/.exec(request.headers.range ?? '') ?? [];
  return { start: Number(first), end: last === '' ? size : Number(last) + 1 };
}

function rangeOf(request: IncomingMessage): { start: number; end: number } {
  const found = /bytes=(\d+)-(\d*)/.exec(request.headers.range ?? '');
  const start = Number(found?.[1] ?? 0);
  return { start, end: found?.[2] ? Number(found[2]) + 1 : start + 100_000 };
}
