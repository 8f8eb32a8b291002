// The paths of the control API and what each does.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { throttleProgress } from '../observe/progress.ts';
import { errorCode, errorMessage } from '../layer/errors.ts';
import type { LogRing } from '../observe/log-ring.ts';
import { checked, credentialsRequest, logsQuery, mountRequest, unmountRequest } from './control-requests.ts';
import type { CredentialsRequest } from './control-requests.ts';
import type { DaemonMountOptions } from './daemon-mounts.ts';
import { DaemonError } from './errors.ts';
import type { MountReport } from './mount-report.ts';
import type { PullReport } from './pull-report.ts';
import { pullAnswer, pullRequest, pullStop } from './pull-requests.ts';
import type { Pulls } from './pulls.ts';
import type { StatusReport } from './status-report.ts';

/** What the daemon lends to its control API. */
export interface ControlBackend {
  readonly version: string;
  readonly root: string;
  readonly logRing: LogRing;
  status(): Promise<StatusReport>;
  mount(options: DaemonMountOptions): Promise<{ readonly row: object; readonly warnings: readonly string[] }>;
  unmount(
    dir: string,
    options: { readonly detach: boolean; readonly signal: AbortSignal },
  ): Promise<{ readonly dir: string }>;
  readonly pulls: Pulls;
  /** Undefined where nothing remembers credentials. */
  readonly remember: ((request: CredentialsRequest) => Promise<void>) | undefined;
  /** Returns the keys that count only after a restart. Errors: those of the configuration. */
  reload(): Promise<readonly string[]>;
  metrics(): Promise<{ readonly text: string; readonly contentType: string }>;
}

export interface Exchange {
  readonly response: ServerResponse<IncomingMessage>;
  readonly query: URLSearchParams;
  /** The body as JSON. Errors: ERR_DAEMON_REQUEST. */
  readonly body: () => Promise<unknown>;
  /** Aborted when the client has gone away or the server stops. */
  readonly signal: AbortSignal;
}

export type Route = (backend: ControlBackend, exchange: Exchange) => Promise<void>;

/** Path → method → what is done. */
export const routes: Readonly<Record<string, Readonly<Record<string, Route>>>> = {
  '/v1/version': {
    GET: async ({ version, root }, { response }) => sendJson(response, { version, pid: process.pid, root }),
  },
  '/v1/status': { GET: async (backend, { response }) => sendJson(response, await backend.status()) },
  '/v1/mounts': { POST: mount },
  '/v1/unmount': {
    POST: async (backend, { response, body, signal }) => {
      const { dir, detach } = checked(unmountRequest, await body());
      sendJson(response, await backend.unmount(dir, { detach, signal }));
    },
  },
  '/v1/pulls': { POST: pull },
  '/v1/pulls/answers': {
    POST: async ({ pulls }, { response, body }) => {
      pulls.answer(checked(pullAnswer, await body()));
      sendJson(response, {});
    },
  },
  '/v1/pulls/stop': {
    POST: async ({ pulls }, { response, body }) => {
      pulls.stop(checked(pullStop, await body()));
      sendJson(response, {});
    },
  },
  '/v1/logs': { GET: logs },
  '/v1/credentials': {
    POST: async ({ remember }, { response, body }) => {
      const request = checked(credentialsRequest, await body());
      if (remember === undefined)
        throw new DaemonError('ERR_DAEMON_UNSUPPORTED', 'this daemon remembers no credentials');
      await remember(request);
      sendJson(response, {});
    },
  },
  '/v1/reload': {
    POST: async (backend, { response }) => sendJson(response, { restartNeeded: await backend.reload() }),
  },
  '/metrics': {
    GET: async (backend, { response }) => {
      const { text, contentType } = await backend.metrics();
      response.writeHead(200, { 'content-type': contentType }).end(text);
    },
  },
};

export function sendJson(response: ServerResponse, value: unknown, status = 200): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(`${JSON.stringify(value)}\n`);
}

async function mount(backend: ControlBackend, { response, body, signal }: Exchange): Promise<void> {
  const request = checked(mountRequest, await body());
  const send = startReport(response);
  try {
    const { row, warnings } = await backend.mount({
      ...request,
      upper: request.upper,
      onProgress: throttleProgress((progress) => send({ kind: 'progress', progress })),
      signal,
    });
    send({ kind: 'ready', mount: { ...row }, warnings });
  } catch (error) {
    send({
      kind: 'failed',
      code: errorCode(error) ?? 'ERR_UNEXPECTED',
      message: errorMessage(error),
      usage: false,
    });
  }
  response.end();
}

async function pull({ pulls }: ControlBackend, { response, body, signal }: Exchange): Promise<void> {
  const request = checked(pullRequest, await body());
  pulls.check(request);
  const report = startReport(response);
  try {
    report({ kind: 'ready', image: await pulls.pull(request, { signal, report }) });
  } catch (error) {
    report({ kind: 'failed', code: errorCode(error) ?? 'ERR_UNEXPECTED', message: errorMessage(error) });
  }
  response.end();
}

/** From here on the answer is a stream, and a failure its last line. Progress is left out for a reader that is far behind. */
function startReport(response: ServerResponse): (report: MountReport | PullReport) => void {
  response.writeHead(200, { 'content-type': 'application/x-ndjson' });
  response.flushHeaders();
  return (report) => {
    if (report.kind === 'progress' && response.writableLength > maxBehindBytes) return;
    response.write(`${JSON.stringify(report)}\n`);
  };
}

/** A reader that is this far behind has stopped reading. */
const maxBehindBytes = 4 << 20;

async function logs({ logRing }: ControlBackend, { response, query, signal }: Exchange): Promise<void> {
  const { tail, follow } = checked(logsQuery, Object.fromEntries(query));
  response.writeHead(200, { 'content-type': 'application/x-ndjson' });
  for (const line of logRing.tail(tail)) response.write(`${line}\n`);
  if (follow === '0') {
    response.end();
    return;
  }
  response.flushHeaders();
  const stop = logRing.follow((line) => {
    if (response.writableLength > maxBehindBytes) response.destroy();
    else response.write(`${line}\n`);
  });
  const end = () => {
    stop();
    response.end();
  };
  if (signal.aborted) end();
  else signal.addEventListener('abort', end, { once: true });
}
