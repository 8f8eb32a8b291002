// The other end of the control API, for the command line.
import { lstat } from 'node:fs/promises';
import { request as httpRequest } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { errorCode, errorMessage } from '../layer/errors.ts';
import type { Progress } from '../image/image.ts';
import type { Credentials } from '../registry/auth/credentials.ts';
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

const versionAnswer = z.object({ version: z.string(), pid: z.number(), root: z.string() });
const errorAnswer = z.object({ error: z.object({ code: z.string(), message: z.string() }) });

export type VersionAnswer = z.infer<typeof versionAnswer>;

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
      return new ControlClient(socket, versionAnswer.parse(hello));
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
    const response = await this.#send('POST', '/v1/mounts', request, options);
    for await (const line of createInterface({ input: response })) {
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
    const response = await this.#send('GET', `/v1/logs?tail=${tail}&follow=${follow ? 1 : 0}`, undefined, options);
    try {
      yield* createInterface({ input: response });
    } catch (error) {
      if (options.signal?.aborted !== true && errorCode(error) !== 'ECONNRESET') throw error;
    }
  }

  async #call(method: string, path: string, body: unknown, options: CallOptions): Promise<unknown> {
    return await getJson(this.socket, method, path, body, { ...options, timeoutMs: answerMs });
  }

  async #send(method: string, path: string, body: unknown, options: CallOptions): Promise<IncomingMessage> {
    return await send(this.socket, method, path, body, options);
  }
}

/** As docker's configuration has them. */
function fieldsOf(credentials: Credentials): Readonly<Record<string, string | undefined>> {
  if (credentials.kind === 'access-token') return { registryToken: credentials.token };
  if (credentials.kind === 'refresh-token') return { identityToken: credentials.token, username: credentials.username };
  return { username: credentials.username, password: credentials.password };
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
    const { error } = errorAnswer.parse(JSON.parse(body));
    return new ControlError(error.code, error.message);
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
