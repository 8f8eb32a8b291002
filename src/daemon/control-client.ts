// The other end of the control API, for the command line.
import { lstat } from 'node:fs/promises';
import { request as httpRequest } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { errorCode, errorMessage } from '../layer/errors.ts';
import type { Progress } from '../image/image.ts';
import type { Credentials } from '../registry/auth/credentials.ts';
import { textLines } from '../util/text-lines.ts';
import type { MountRequest } from './control-requests.ts';
import { DaemonError } from './errors.ts';
import { parseMountReport } from './mount-report.ts';
import type { StatusReport } from './status-report.ts';

export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
}

export interface MountAnswer {
  readonly mount: Readonly<Record<string, unknown>>;
  readonly warnings: readonly string[];
}

/** An error that the daemon answered with; `code` is the daemon's. */
export class ControlError extends Error {
  override readonly name = 'ControlError';
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

export interface VersionAnswer {
  readonly version: string;
  readonly pid: number;
  readonly root: string;
}

const helloMs = 3_000;
const answerMs = 60_000;
const maxAnswerBytes = 64 << 20;

export class ControlClient {
  readonly socket: string;
  readonly hello: VersionAnswer;

  private constructor(socket: string, hello: VersionAnswer) {
    this.socket = socket;
    this.hello = hello;
  }

  /** Undefined when nobody answers there. Errors: ERR_DAEMON_ANSWER when what answers is no daemon of ours; the signal's reason. */
  static async connect(socket: string, options: CallOptions = {}): Promise<ControlClient | undefined> {
    if ((await lstat(socket).catch(() => undefined))?.isSocket() !== true) return undefined;
    try {
      const hello = await getJson(socket, 'GET', '/v1/version', undefined, { ...options, timeoutMs: helloMs });
      return new ControlClient(socket, versionAnswer(hello));
    } catch (error) {
      options.signal?.throwIfAborted();
      const code = errorCode(error);
      if (code === 'ECONNREFUSED' || code === 'ENOENT') return undefined;
      throw new DaemonError('ERR_DAEMON_ANSWER', `the daemon on ${socket} does not answer: ${errorMessage(error)}`, {
        cause: error,
      });
    }
  }

  async status(options: CallOptions = {}): Promise<StatusReport> {
    return (await this.#call('GET', '/v1/status', undefined, options)) as StatusReport;
  }

  /** Leaving early undoes it. Errors: ControlError with the code of what went wrong. */
  async mount(
    request: MountRequest,
    options: CallOptions & { readonly onProgress: (progress: Progress) => void },
  ): Promise<MountAnswer> {
    for await (const line of this.lines('/v1/mounts', request, options)) {
      const report = parseMountReport(line);
      if (report.kind === 'progress') options.onProgress(report.progress);
      else if (report.kind === 'ready') return report;
      else throw new ControlError(report.code, report.message);
    }
    options.signal?.throwIfAborted();
    throw new DaemonError('ERR_DAEMON_ANSWER', 'the daemon ended before the mount was made (see peel logs)');
  }

  async unmount(
    request: { readonly dir: string; readonly detach: boolean },
    options: CallOptions = {},
  ): Promise<{ readonly dir: string }> {
    return (await this.#call('POST', '/v1/unmount', request, options)) as { readonly dir: string };
  }

  /** Credentials for the repository of an image. Errors: ControlError, whose message repeats none of them. */
  async remember(
    { image, credentials }: { readonly image: string; readonly credentials: Credentials },
    options: CallOptions = {},
  ): Promise<void> {
    await this.#call('POST', '/v1/credentials', { image, ...fieldsOf(credentials) }, options);
  }

  async reload(options: CallOptions = {}): Promise<{ readonly restartNeeded: readonly string[] }> {
    return (await this.#call('POST', '/v1/reload', {}, options)) as { readonly restartNeeded: readonly string[] };
  }

  /** Lines of JSON; with `follow` until the signal or the daemon ends it. */
  async *logs(
    { tail, follow }: { readonly tail: number; readonly follow: boolean },
    options: CallOptions = {},
  ): AsyncGenerator<string> {
    const query = `tail=${tail}&follow=${follow ? 1 : 0}`;
    const response = await send(this.socket, 'GET', `/v1/logs?${query}`, undefined, options);
    try {
      yield* textLines(response as AsyncIterable<Buffer>, maxAnswerBytes);
    } catch (error) {
      if (options.signal?.aborted !== true && errorCode(error) !== 'ECONNRESET') throw error;
    }
  }

  /** Posts `body`. Errors: ControlError, those of the connection. */
  async post(path: string, body: unknown, options: CallOptions = {}): Promise<unknown> {
    return await this.#call('POST', path, body, options);
  }

  /** Posts `body`; the lines of the answer as they come, until the daemon ends it or goes away. Errors: ControlError; the signal's reason. */
  async *lines(path: string, body: unknown, options: CallOptions = {}): AsyncGenerator<string> {
    const response = await send(this.socket, 'POST', path, body, options);
    try {
      yield* textLines(response as AsyncIterable<Buffer>, maxAnswerBytes);
    } catch (error) {
      options.signal?.throwIfAborted();
      if (errorCode(error) !== 'ECONNRESET') throw error;
    } finally {
      response.destroy();
    }
  }

  async #call(method: string, path: string, body: unknown, options: CallOptions): Promise<unknown> {
    return await getJson(this.socket, method, path, body, { ...options, timeoutMs: answerMs });
  }
}

/** As docker's configuration has them. */
export function fieldsOf(credentials: Credentials): Readonly<Record<string, string | undefined>> {
  if (credentials.kind === 'access-token') return { registryToken: credentials.token };
  if (credentials.kind === 'refresh-token') return { identityToken: credentials.token, username: credentials.username };
  return { username: credentials.username, password: credentials.password };
}

/** Errors: TypeError. */
function versionAnswer(answer: unknown): VersionAnswer {
  const { version, pid, root } = (answer ?? {}) as Readonly<Record<string, unknown>>;
  if (typeof version === 'string' && typeof pid === 'number' && typeof root === 'string') return { version, pid, root };
  throw new TypeError('it is something else that answers');
}

async function getJson(
  socket: string,
  method: string,
  path: string,
  body: unknown,
  { signal, timeoutMs }: CallOptions & { readonly timeoutMs: number },
): Promise<unknown> {
  const timeout = AbortSignal.timeout(timeoutMs);
  const both = signal === undefined ? timeout : AbortSignal.any([signal, timeout]);
  return JSON.parse(await text(await send(socket, method, path, body, { signal: both }))) as unknown;
}

/** The head of a successful answer. Errors: ControlError for any other; those of the connection. */
async function send(
  socket: string,
  method: string,
  path: string,
  body: unknown,
  { signal }: CallOptions,
): Promise<IncomingMessage> {
  const bytes = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const headers = bytes === undefined ? {} : { 'content-type': 'application/json', 'content-length': bytes.length };
    const request = httpRequest({ socketPath: socket, method, path, headers, signal, agent: false }, resolve);
    request.on('error', (error) => reject(signal?.aborted === true ? (signal.reason as Error) : error));
    request.end(bytes);
  });
  if (response.statusCode === 200) return response;
  throw errorOf(await text(response), response.statusCode ?? 0);
}

function errorOf(body: string, status: number): Error {
  try {
    const { error } = JSON.parse(body) as { readonly error: Readonly<Record<string, unknown>> };
    const { code, message } = error;
    if (typeof code !== 'string' || typeof message !== 'string') throw new TypeError('no code, or no message');
    return new ControlError(code, message);
  } catch (cause) {
    return new DaemonError('ERR_DAEMON_ANSWER', `the daemon answered with status ${status}`, { cause });
  }
}

async function text(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > maxAnswerBytes) throw new DaemonError('ERR_DAEMON_ANSWER', 'the answer of the daemon is too long');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}
