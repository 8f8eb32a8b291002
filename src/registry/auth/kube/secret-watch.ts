// Keeps a copy of all pull secrets of one type: a list, then a watch from where the list ended, over and over.
import type { Logger } from '../../../observe/log.ts';
import { backoffDelay, systemTimer } from '../../../util/backoff.ts';
import type { BackoffPolicy } from '../../../util/backoff.ts';
import { Deferred } from '../../../util/deferred.ts';
import { RegistryError } from '../../errors.ts';
import type { KubeAnswer, KubeClient } from './kube-client.ts';
import { nameOfSecret, parseSecret, parseSecretList, parseWatchEvent } from './secret-list.ts';
import type { KubeSecret, PullSecretType } from './secret-list.ts';

export interface SecretWatchOptions {
  readonly client: KubeClient;
  readonly type: PullSecretType;
  readonly log: Logger;
  readonly backoff: Pick<BackoffPolicy, 'baseMs' | 'maxMs'>;
}

const maxSecrets = 10_000;
const maxListBytes = 32 * 1024 * 1024;
const maxEventBytes = 4 * 1024 * 1024;
const maxPages = 2_000;
/** The second is for secrets of the largest size, 1 MiB each. */
const pageSizes = [500, 16] as const;
/** Servers end a watch by themselves after such a time. */
const watchSeconds = 300;

export class SecretWatch {
  readonly #options: SecretWatchOptions;
  readonly #first = new Deferred<void>();
  readonly #closing = new AbortController();
  readonly #running: Promise<void>;
  #round = new AbortController();
  #pageSize: number = pageSizes[0];
  #secrets = new Map<string, KubeSecret>();
  #changes = 0;
  #failing: string | undefined;

  constructor(options: SecretWatchOptions) {
    this.#options = options;
    this.#running = this.#run();
  }

  /** Until the first list is here or has failed. */
  get first(): Promise<void> {
    return this.#first.promise;
  }

  /** By `namespace/name`. What was known last when the server does not answer. */
  get secrets(): ReadonlyMap<string, KubeSecret> {
    return this.#secrets;
  }

  /** Counts up with each change. */
  get changes(): number {
    return this.#changes;
  }

  /** Asks anew, with what the kubeconfig says now. */
  restart(): void {
    this.#round.abort();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    for (let failures = 0; !signal.aborted; ) {
      this.#round = new AbortController();
      const round = AbortSignal.any([signal, this.#round.signal]);
      try {
        let version: string | undefined = await this.#list(round);
        this.#first.resolve();
        while (version !== undefined) {
          version = await this.#watch(version, round);
          failures = 0;
        }
      } catch (error) {
        if (!round.aborted) this.#say(error);
        failures += 1;
      }
      this.#first.resolve();
      if (!round.aborted) await this.#pause(failures, round);
    }
  }

  async #pause(failures: number, signal: AbortSignal): Promise<void> {
    const { baseMs, maxMs } = this.#options.backoff;
    const policy = { baseMs, maxMs, attempts: Number.POSITIVE_INFINITY, maxRetryAfterMs: 0 };
    const waitMs = baseMs + backoffDelay(policy, failures, systemTimer.random());
    await systemTimer.sleep(waitMs, signal).catch(() => undefined);
  }

  /** Returns the version that a watch goes on from. */
  async #list(signal: AbortSignal): Promise<string> {
    const secrets = new Map<string, KubeSecret>();
    let continueAt: string | undefined;
    for (let page = 0; ; page += 1) {
      const more: Record<string, string> = continueAt === undefined ? {} : { continue: continueAt };
      const answer = await this.#get({ limit: String(this.#pageSize), ...more }, signal);
      const list = parseSecretList(await this.#readPage(answer, signal));
      for (const item of list.items) this.#take(secrets, item);
      continueAt = list.continueAt;
      if (continueAt === undefined || page >= maxPages) {
        this.#secrets = secrets;
        this.#changes += 1;
        return list.resourceVersion;
      }
    }
  }

  /** Undefined: a list is needed. */
  async #watch(from: string, signal: AbortSignal): Promise<string | undefined> {
    const query = { watch: '1', allowWatchBookmarks: 'true', timeoutSeconds: String(watchSeconds) };
    const answer = await this.#get({ ...query, resourceVersion: from }, signal, [410]);
    if (answer.status === 410) {
      answer.body.on('error', () => undefined).destroy();
      return undefined;
    }
    this.#recovered();
    const started = performance.now();
    let version = from;
    for await (const line of linesOf(answer, signal)) {
      const { type, object, code, resourceVersion } = parseWatchEvent(line);
      if (type === 'ERROR') {
        if (code === 410) return undefined;
        throw new RegistryError('UNAVAILABLE', `the watch of the pull secrets ended with status ${code ?? 'unknown'}`);
      }
      version = resourceVersion ?? version;
      if (type !== 'BOOKMARK') this.#change(type, object);
    }
    // One that ends at once, over and over, must not become a busy loop.
    if (performance.now() - started < 1_000 && version === from)
      throw new RegistryError('UNAVAILABLE', 'the watch of the pull secrets ended at once');
    return version;
  }

  #change(type: 'ADDED' | 'MODIFIED' | 'DELETED', object: unknown): void {
    const name = nameOfSecret(object);
    if (name !== undefined) this.#secrets.delete(name);
    if (type !== 'DELETED') this.#take(this.#secrets, object);
    this.#changes += 1;
  }

  #take(into: Map<string, KubeSecret>, object: unknown): void {
    const { type, log } = this.#options;
    try {
      const secret = parseSecret(object, type);
      if (into.size < maxSecrets) into.set(secret.name, secret);
      else log.debug({ secret: secret.name }, `more than ${maxSecrets} pull secrets: this one is passed over`);
    } catch (error) {
      log.debug({ err: error }, 'a pull secret is passed over');
    }
  }

  async #get(
    query: Readonly<Record<string, string>>,
    signal: AbortSignal,
    accept: readonly number[] = [],
  ): Promise<KubeAnswer> {
    const parameters = new URLSearchParams({ fieldSelector: `type=${this.#options.type}`, ...query });
    const answer = await this.#options.client.get(`/api/v1/secrets?${parameters.toString()}`, signal);
    const { status, body } = answer;
    if (status === 200 || accept.includes(status)) return answer;
    body.on('error', () => undefined).destroy();
    const hint = status === 403 ? ': the user of the kubeconfig needs the rights to list and watch secrets' : '';
    throw new RegistryError('UNAVAILABLE', `the api server answered ${status} to a list of pull secrets${hint}`, {
      status,
    });
  }

  async #readPage(answer: KubeAnswer, signal: AbortSignal): Promise<string> {
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of chunksOf(answer, signal)) {
      chunks.push(chunk);
      size += chunk.byteLength;
      if (size <= maxListBytes) continue;
      this.#pageSize = pageSizes[1];
      throw new RegistryError('TOO_LARGE', `a list of pull secrets has more than ${maxListBytes} bytes`);
    }
    return Buffer.concat(chunks, size).toString('utf8');
  }

  #recovered(): void {
    const { log, type } = this.#options;
    if (this.#failing !== undefined) log.info({ type }, 'the pull secrets of kubernetes are up to date again');
    this.#failing = undefined;
  }

  /** Each kind of failure once, until it has passed. */
  #say(error: unknown): void {
    const { log, type } = this.#options;
    const message = error instanceof Error ? error.message : String(error);
    if (this.#failing === message) return;
    this.#failing = message;
    log.warn({ type }, `pull secrets of kubernetes: ${message}; what is known is kept, and it is tried again`);
  }
}

async function* chunksOf({ body }: KubeAnswer, signal: AbortSignal): AsyncGenerator<Buffer> {
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) yield chunk;
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof RegistryError) throw error;
    throw new RegistryError('TRUNCATED', 'the connection to the api server was lost', { cause: error });
  }
}

async function* linesOf(answer: KubeAnswer, signal: AbortSignal): AsyncGenerator<string> {
  let parts: Buffer[] = [];
  let size = 0;
  for await (const chunk of chunksOf(answer, signal)) {
    let at = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, at)) {
      const line = Buffer.concat([...parts, chunk.subarray(at, end)]).toString('utf8');
      [parts, size, at] = [[], 0, end + 1];
      if (line.trim() !== '') yield line;
    }
    parts.push(chunk.subarray(at));
    size += chunk.byteLength - at;
    if (size > maxEventBytes)
      throw new RegistryError('TOO_LARGE', `an event of a watch has more than ${maxEventBytes} bytes`);
  }
}
