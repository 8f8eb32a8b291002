// Stands in for a Kubernetes API server: secrets as it lists and watches them (API concepts, "Efficient detection of changes").
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { readFileSync } from 'node:fs';
import type { TLSSocket } from 'node:tls';
import { onTestFinished } from 'vitest';
import type { Certificate } from './certificates.ts';

export interface KubeRequest {
  readonly kind: 'list' | 'watch';
  readonly type: string;
  /** Token, or name of the client certificate. */
  readonly user: string | undefined;
  readonly status: number;
}

interface Stored {
  readonly version: number;
  readonly object: Readonly<Record<string, unknown>> & { readonly type: string };
}

interface Watcher {
  readonly type: string;
  readonly response: ServerResponse;
}

const jsonType = 'kubernetes.io/dockerconfigjson';

export class KubeApi {
  readonly requests: KubeRequest[] = [];
  /** Names of those who may ask: tokens and names of client certificates. */
  users = new Set<string>();
  /** Answers instead, and returns true. */
  fault: (request: IncomingMessage, response: ServerResponse) => boolean = () => false;
  /** The most that a page of a list has, whatever is asked for. */
  pageSize = 500;
  readonly #secrets = new Map<string, Stored>();
  readonly #events: { readonly version: number; readonly type: string; readonly line: string }[] = [];
  readonly #watchers = new Set<Watcher>();
  readonly #options: { readonly certificate: Certificate; readonly caFile: string };
  #version = 100;
  #oldest = 0;
  #port = 0;
  #server: Server | undefined;

  constructor(certificate: Certificate, caFile: string) {
    this.#options = { certificate, caFile };
    onTestFinished(() => this.stop());
  }

  get url(): string {
    return `https://127.0.0.1:${this.#port}`;
  }

  get watchers(): number {
    return this.#watchers.size;
  }

  /** On the port it had before. */
  async start(): Promise<this> {
    const { certificate, caFile } = this.#options;
    const server = createServer(
      { ...certificate.pems, ca: readFileSync(caFile), requestCert: true, rejectUnauthorized: false },
      (request, response) => this.#answer(request, response),
    );
    this.#server = server;
    await new Promise<void>((resolve) => void server.listen(this.#port, '127.0.0.1', resolve));
    this.#port = (server.address() as AddressInfo).port;
    return this;
  }

  async stop(): Promise<void> {
    const closed = new Promise((resolve) => this.#server?.close(resolve) ?? resolve(undefined));
    this.#server?.closeAllConnections();
    this.#watchers.clear();
    await closed;
    this.#server = undefined;
  }

  /** `auths` as in docker's config.json. */
  put(name: string, auths: unknown, more: { type?: string; text?: string; createdAt?: string } = {}): void {
    const { type = jsonType, createdAt = '2024-01-01T00:00:00Z' } = more;
    const text = more.text ?? JSON.stringify(type === jsonType ? { auths } : auths);
    const key = type === jsonType ? '.dockerconfigjson' : '.dockercfg';
    const [namespace, own] = name.split('/');
    this.#version += 1;
    const object = {
      kind: 'Secret',
      apiVersion: 'v1',
      metadata: { name: own, namespace, creationTimestamp: createdAt, resourceVersion: String(this.#version) },
      data: { [key]: Buffer.from(text).toString('base64') },
      type,
    };
    const event = this.#secrets.has(name) ? 'MODIFIED' : 'ADDED';
    this.#secrets.set(name, { version: this.#version, object });
    this.#emit(event, type, object);
  }

  delete(name: string): void {
    const stored = this.#secrets.get(name);
    if (stored === undefined) return;
    this.#secrets.delete(name);
    this.#version += 1;
    this.#emit('DELETED', stored.object.type, stored.object);
  }

  /** Past changes are forgotten: who wants to watch from before them has to list anew. */
  compact(): void {
    this.#events.length = 0;
    this.#oldest = this.#version;
  }

  bookmark(): void {
    this.#version += 1;
    const object = { kind: 'Secret', apiVersion: 'v1', metadata: { resourceVersion: String(this.#version) } };
    for (const watcher of this.#watchers) watcher.response.write(`${JSON.stringify({ type: 'BOOKMARK', object })}\n`);
  }

  /** Says `text` to all who watch. */
  say(text: string): void {
    for (const watcher of this.#watchers) watcher.response.write(text);
  }

  endWatches(how: 'end' | 'break' = 'end'): void {
    for (const { response } of this.#watchers) {
      if (how === 'end') response.end();
      else response.socket?.destroy();
    }
    this.#watchers.clear();
  }

  #emit(event: string, type: string, object: unknown): void {
    const line = `${JSON.stringify({ type: event, object })}\n`;
    this.#events.push({ version: this.#version, type, line });
    for (const watcher of this.#watchers) if (watcher.type === type) watcher.response.write(line);
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    if (this.fault(request, response)) return;
    const url = new URL(request.url ?? '/', 'https://x');
    const query = url.searchParams;
    const kind = query.get('watch') === null ? 'list' : 'watch';
    const type = query.get('fieldSelector')?.replace(/^type=/, '') ?? '';
    const socket = request.socket as TLSSocket;
    const name = socket.authorized ? socket.getPeerCertificate().subject?.CN : undefined;
    const user: string | undefined =
      /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1] ?? (typeof name === 'string' ? name : undefined);
    const end = (status: number, body: unknown) => {
      this.requests.push({ kind, type, user, status });
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    };
    if (url.pathname !== '/api/v1/secrets') return end(404, { kind: 'Status', code: 404 });
    if (user === undefined || !this.users.has(user)) return end(401, { kind: 'Status', code: 401, message: user });
    if (kind === 'list') return end(200, this.#list(type, query));
    const from = Number(query.get('resourceVersion'));
    if (from < this.#oldest) return end(410, { kind: 'Status', code: 410, reason: 'Expired' });
    this.requests.push({ kind, type, user, status: 200 });
    response.writeHead(200, { 'content-type': 'application/json' });
    response.flushHeaders();
    for (const event of this.#events) if (event.version > from && event.type === type) response.write(event.line);
    const watcher = { type, response };
    this.#watchers.add(watcher);
    response.once('close', () => this.#watchers.delete(watcher));
  }

  #list(type: string, query: URLSearchParams) {
    const all = [...this.#secrets.values()].map(({ object }) => object).filter((object) => object.type === type);
    const from = Number(query.get('continue') ?? '0');
    const to = from + Math.min(Number(query.get('limit')), this.pageSize);
    return {
      kind: 'SecretList',
      apiVersion: 'v1',
      metadata: { resourceVersion: String(this.#version), continue: to < all.length ? String(to) : '' },
      // As the server does it, whose lists leave out what is the same of all.
      items: all.slice(from, to).map(({ kind: _kind, apiVersion: _version, ...rest }) => rest),
    };
  }
}
