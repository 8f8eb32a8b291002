// Images that the daemon pulls for somebody at a shell, as that person: with what he says of registries, and with his credentials.
import { randomUUID } from 'node:crypto';
import { environmentOf } from '../config/registry-variables.ts';
import { errorCode, errorMessage } from '../layer/errors.ts';
import type { Logger } from '../observe/log.ts';
import { throttleProgress } from '../observe/progress.ts';
import { formatReference } from '../oci/reference.ts';
import { anonymous } from '../registry/auth/credentials.ts';
import type { PulledImage } from '../snapshotter/pull/pull-to-containerd.ts';
import { AskedCredentials } from './asked-credentials.ts';
import type { CredentialsRequest } from './control-requests.ts';
import { DaemonError } from './errors.ts';
import { Origins } from './origins.ts';
import { isSamePlace, processPlace } from './process-place.ts';
import type { PullReport } from './pull-report.ts';
import type { PullAnswer, PullRequest } from './pull-requests.ts';

export interface PullsDeps {
  readonly log: Logger;
  /** Keeps the user that an image was pulled with. */
  readonly remember: (request: CredentialsRequest) => Promise<void>;
  /** Bytes of bodies that arrived. */
  readonly onBytes?: ((bytes: number) => void) | undefined;
}

export interface PullCaller {
  /** Aborted when nobody waits any more. */
  readonly signal: AbortSignal;
  readonly report: (report: PullReport) => void;
}

interface RunningPull {
  readonly credentials: AskedCredentials;
  readonly stop: () => void;
  readonly ended: Promise<unknown>;
}

export class Pulls {
  readonly #deps: PullsDeps;
  readonly #running = new Map<string, RunningPull>();

  constructor(deps: PullsDeps) {
    this.#deps = deps;
  }

  /** Errors: ERR_DAEMON_ELSEWHERE, to be called first. */
  check({ place }: PullRequest): void {
    if (!isSamePlace(place, processPlace()))
      throw new DaemonError('ERR_DAEMON_ELSEWHERE', 'the daemon has other files, another network or another user');
  }

  /** Resolves when the image is in containerd. Whatever happens, nothing of the pull is under way when it settles. Errors: as `pullToContainerd`. */
  async pull(request: PullRequest, { signal, report }: PullCaller): Promise<PulledImage> {
    const id = randomUUID();
    const stopping = new AbortController();
    const credentials = new AskedCredentials((question) => report({ kind: 'credentials', ...question }));
    report({ kind: 'started', pull: id });
    const pulling = this.#pull(request, credentials, { signal: AbortSignal.any([signal, stopping.signal]), report });
    this.#running.set(id, {
      credentials,
      stop: () => stopping.abort(new Error('whoever asked for the pull stopped it')),
      ended: pulling.catch(() => undefined),
    });
    try {
      return await pulling;
    } finally {
      this.#running.delete(id);
    }
  }

  /** Errors: ERR_DAEMON_REQUEST when nobody waits for it. */
  answer({ pull, ask, user, error }: PullAnswer): void {
    if (!this.#find(pull).credentials.answer(ask, { user, error }))
      throw new DaemonError('ERR_DAEMON_REQUEST', `ask: pull ${pull} waits for no such answer`);
  }

  /** Its caller is told as soon as it is undone. Errors: ERR_DAEMON_REQUEST. */
  stop({ pull }: { readonly pull: string }): void {
    this.#find(pull).stop();
  }

  /** Stops them all, and resolves when they are undone. */
  async close(): Promise<void> {
    const running = [...this.#running.values()];
    for (const { stop } of running) stop();
    for (const { ended } of running) await ended;
  }

  #find(pull: string): RunningPull {
    const found = this.#running.get(pull);
    if (found === undefined) throw new DaemonError('ERR_DAEMON_REQUEST', 'pull: there is no such pull');
    return found;
  }

  async #pull(
    request: PullRequest,
    credentials: AskedCredentials,
    { signal, report }: PullCaller,
  ): Promise<PulledImage> {
    const { log, onBytes } = this.#deps;
    const { reference, address, user, caFile, insecure, variables, hasCredentials, index, ...options } = request;
    const image = formatReference(reference);
    const startedAt = performance.now();
    const origins = new Origins({
      environment: environmentOf(variables),
      access: { credentials: user, caFile, insecure },
      credentials: hasCredentials ? credentials : anonymous,
      onBytes,
      log,
    });
    try {
      const { pullToContainerd } = await import('../snapshotter/pull/pull-to-containerd.ts');
      const pulled = await pullToContainerd(
        { openOrigin: origins.open, address },
        {
          reference,
          platform: options.platform,
          namespace: options.namespace,
          snapshotter: options.snapshotter,
          indexDigest: index,
          signal,
          onResolved: async () => await this.#remember(image, user, report),
          onProgress: throttleProgress((progress) => report({ kind: 'progress', progress })),
          onWarning: (message) => report({ kind: 'warning', message }),
        },
      );
      const ms = Math.round(performance.now() - startedAt);
      log.info({ image, namespace: options.namespace, ms }, 'image was pulled');
      return pulled;
    } catch (error) {
      if (!signal.aborted) log.warn({ image, error: errorMessage(error) }, 'image could not be pulled');
      throw error;
    } finally {
      await origins.close();
    }
  }

  async #remember(
    image: string,
    credentials: PullRequest['user'],
    report: (report: PullReport) => void,
  ): Promise<void> {
    if (credentials === undefined) return;
    try {
      await this.#deps.remember({ image, credentials });
    } catch (error) {
      report({ kind: 'user-refused', code: errorCode(error) ?? 'ERR_UNEXPECTED' });
    }
  }
}
