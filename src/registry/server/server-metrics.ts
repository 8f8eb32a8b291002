// What a server does, in Prometheus' text format.
import { createServer } from 'node:http';
import type { Counter, Gauge, Histogram, Registry as PromRegistry } from 'prom-client';
import { parseListen, startListening, stopListening } from './listen.ts';
import type { RequestRecord } from './server-stats.ts';

const methods: ReadonlySet<string> = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE']);
const durations = [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60, 300];

type Asked = Pick<RequestRecord, 'method' | 'kind'>;

export class ServerMetrics {
  readonly #registry: PromRegistry;
  readonly #requests: Counter<'method' | 'route' | 'status'>;
  readonly #seconds: Histogram<'method' | 'route'>;
  readonly #received: Counter<'route'>;
  readonly #sent: Counter<'route'>;
  readonly #inFlight: Gauge;
  readonly #uploads: Gauge;

  private constructor(prom: typeof import('prom-client')) {
    const registers = [new prom.Registry()];
    this.#registry = registers[0] as PromRegistry;
    const name = (suffix: string, help: string) => ({ name: `peel_registry_${suffix}`, help, registers });
    this.#requests = new prom.Counter({
      ...name(
        'requests_total',
        'Requests that ended; status is a class, or "none" when the client left before an answer.',
      ),
      labelNames: ['method', 'route', 'status'],
    });
    this.#seconds = new prom.Histogram({
      ...name('request_duration_seconds', 'From the head of a request to the end of its answer.'),
      labelNames: ['method', 'route'],
      buckets: durations,
    });
    this.#received = new prom.Counter({
      ...name('received_bytes_total', 'Bytes of request bodies.'),
      labelNames: ['route'],
    });
    this.#sent = new prom.Counter({ ...name('sent_bytes_total', 'Bytes of answer bodies.'), labelNames: ['route'] });
    this.#inFlight = new prom.Gauge(name('requests_in_flight', 'Requests under way.'));
    this.#uploads = new prom.Gauge(name('uploads_in_flight', 'Requests under way that send bytes of blobs.'));
  }

  /** The library is loaded here: a server without metrics does not need it. */
  static async create(): Promise<ServerMetrics> {
    return new ServerMetrics(await import('prom-client'));
  }

  begin(asked: Asked): void {
    this.#inFlight.inc();
    if (isUpload(asked)) this.#uploads.inc();
  }

  end(record: RequestRecord): void {
    const { kind: route, status, bytes, received, durationMs } = record;
    // Anybody may send any word as a method; labels are a closed set.
    const method = methods.has(record.method) ? record.method : 'other';
    this.#inFlight.dec();
    if (isUpload(record)) this.#uploads.dec();
    this.#requests.inc({ method, route, status: status === 0 ? 'none' : `${Math.floor(status / 100)}xx` });
    this.#seconds.observe({ method, route }, durationMs / 1000);
    if (received > 0) this.#received.inc({ route }, received);
    if (bytes > 0) this.#sent.inc({ route }, bytes);
  }

  async text(): Promise<string> {
    return await this.#registry.metrics();
  }

  get contentType(): string {
    return this.#registry.contentType;
  }
}

export interface MetricsServer {
  /** `http://127.0.0.1:34567/metrics` */
  readonly url: string;
  close(): Promise<void>;
}

/** Answers GET /metrics over plain HTTP. Errors: TypeError for `listen`; those of listen(2). */
export async function serveMetrics(metrics: ServerMetrics, listen: string): Promise<MetricsServer> {
  const address = parseListen(listen);
  const server = createServer((request, response) => {
    request.resume();
    if (request.url?.split('?')[0] !== '/metrics' || (request.method !== 'GET' && request.method !== 'HEAD')) {
      response.writeHead(404, { 'content-type': 'text/plain' }).end('metrics are at /metrics\n');
      return;
    }
    metrics.text().then(
      (text) => response.writeHead(200, { 'content-type': metrics.contentType }).end(text),
      () => response.destroy(),
    );
  });
  const host = await startListening(server, address);
  return { url: `http://${host}/metrics`, close: async () => await stopListening(server) };
}

function isUpload({ method, kind }: Asked): boolean {
  return (kind === 'upload' || kind === 'uploads') && (method === 'PATCH' || method === 'PUT' || method === 'POST');
}
