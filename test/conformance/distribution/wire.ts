// Plain HTTP/1.1 to a registry, without our own client and without anything that follows, retries or hides.
import { Agent, request as httpRequest } from 'node:http';
import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http';

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** All values of a header that may come on several lines. */
  lines(name: string): string[];
  readonly bytes: Buffer;
  /** Whether the server asked for the body of a request with `Expect: 100-continue`. */
  readonly continued: boolean;
}

export interface Ask {
  readonly headers?: OutgoingHttpHeaders;
  readonly body?: Uint8Array | string;
  /** Sends the body without saying how long it is. */
  readonly streamed?: boolean;
}

export class Wire {
  readonly #base: string;
  readonly #agent = new Agent({ keepAlive: true });

  constructor(base: string) {
    this.#base = base;
  }

  /** `target` is a path or, as some registries give in Location, a whole URL. */
  ask(method: string, target: string, { headers = {}, body, streamed = false }: Ask = {}): Promise<Answer> {
    const bytes = Buffer.from(body ?? '');
    const hasBody = body !== undefined || method === 'POST' || method === 'PUT' || method === 'PATCH';
    const length = !hasBody || streamed ? {} : { 'content-length': bytes.byteLength };
    return new Promise((resolve, reject) => {
      const url = new URL(target, this.#base);
      const request = httpRequest(url, { method, headers: { ...length, ...headers }, agent: this.#agent });
      let continued = false;
      request.once('error', reject);
      request.once('response', (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.once('error', reject);
        response.once('end', () => {
          const { statusCode: status = 0, headers: received, rawHeaders } = response;
          const lines = (name: string) => rawHeaders.filter((_, i) => rawHeaders[i - 1]?.toLowerCase() === name);
          resolve({ status, headers: received, lines, bytes: Buffer.concat(chunks), continued });
        });
      });
      if (headers['expect'] === undefined) {
        if (streamed) request.flushHeaders();
        request.end(hasBody ? bytes : undefined);
        return;
      }
      request.once('continue', () => {
        continued = true;
        request.end(bytes);
      });
      request.flushHeaders();
    });
  }

  close(): void {
    this.#agent.destroy();
  }
}

/** The answer's JSON object. */
export function json(answer: Answer): Readonly<Record<string, unknown>> {
  return JSON.parse(answer.bytes.toString('utf8')) as Readonly<Record<string, unknown>>;
}

/** The code of the first error of a body as the spec has them. */
export function codeOf(answer: Answer): string | undefined {
  return (json(answer) as { errors?: { code?: string }[] }).errors?.[0]?.code;
}
