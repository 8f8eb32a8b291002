import { isDeepStrictEqual } from 'node:util';
import type { Readable } from 'node:stream';
import type { Agent } from 'undici';
import { certificateProblem, wordsFor } from '../../client/connection-words.ts';
import { RegistryError } from '../../errors.ts';
import { runExecCredential } from './exec-credential.ts';
import type { ExecCredential } from './exec-credential.ts';
import { readKubeconfig } from './kubeconfig.ts';
import type { Kubeconfig } from './kubeconfig.ts';

export interface KubeClientOptions {
  readonly kubeconfig: string;
  /** What login programs find in their environment besides what the kubeconfig says. */
  readonly env: Readonly<Record<string, string>>;
  readonly now?: (() => number) | undefined;
}

export interface KubeAnswer {
  readonly status: number;
  readonly body: Readable;
}

interface Tls {
  readonly ca: string | undefined;
  readonly rejectUnauthorized: boolean;
  readonly servername: string | undefined;
  readonly cert: string | undefined;
  readonly key: string | undefined;
}

const connectTimeoutMs = 10_000;
const headersTimeoutMs = 30_000;
/** Above what a watch is asked to last: a server that is gone without a word is noticed then. */
const bodyTimeoutMs = 330_000;
const programTimeoutMs = 60_000;
/** A login is renewed this long before its end. */
const marginMs = 10_000;

/** Asks an API server. All that its kubeconfig names is read anew for each request, since all of it is rotated. */
export class KubeClient {
  readonly #options: KubeClientOptions;
  #agent: { readonly tls: Tls; readonly agent: Agent } | undefined;
  #login: ExecCredential | undefined;

  constructor(options: KubeClientOptions) {
    this.#options = options;
  }

  /** `path` with its query. Errors: CREDENTIALS_INVALID for the kubeconfig, UNREACHABLE, UNTRUSTED, the signal's reason. */
  async get(path: string, signal: AbortSignal): Promise<KubeAnswer> {
    const config = await readKubeconfig(this.#options.kubeconfig);
    const { token, certificate } = await this.#credentialsOf(config, signal);
    const { Agent, request } = await import('undici');
    const agent = this.#agentFor(Agent, config, certificate);
    const url = new URL(config.server.pathname.replace(/\/$/, '') + path, config.server);
    try {
      const { statusCode, body } = await request(url, {
        dispatcher: agent,
        signal,
        headers: {
          accept: 'application/json',
          'user-agent': 'peel',
          ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        },
      });
      // A login that is refused is made anew the next time.
      if (statusCode === 401) this.#login = undefined;
      return { status: statusCode, body };
    } catch (error) {
      signal.throwIfAborted();
      throw unreachable(config.server, error);
    }
  }

  async close(): Promise<void> {
    await this.#agent?.agent.destroy();
    this.#agent = undefined;
  }

  async #credentialsOf(
    config: Kubeconfig,
    signal: AbortSignal,
  ): Promise<Pick<ExecCredential, 'token' | 'certificate'>> {
    const { exec, token, certificate } = config;
    if (exec === undefined) return { token, certificate };
    const { env, now = Date.now } = this.#options;
    if (this.#login === undefined || (this.#login.expiresAt ?? Number.POSITIVE_INFINITY) - marginMs <= now())
      this.#login = await runExecCredential({ exec, cluster: config, env, timeoutMs: programTimeoutMs, signal });
    return { token: this.#login.token ?? token, certificate: this.#login.certificate ?? certificate };
  }

  #agentFor(Agent: typeof import('undici').Agent, config: Kubeconfig, certificate: Kubeconfig['certificate']): Agent {
    const tls: Tls = {
      ca: config.ca,
      rejectUnauthorized: !config.skipVerify,
      servername: config.serverName,
      cert: certificate?.cert,
      key: certificate?.key,
    };
    if (this.#agent !== undefined && isDeepStrictEqual(this.#agent.tls, tls)) return this.#agent.agent;
    // What is under way with the old certificate ends by itself.
    this.#agent?.agent.close().catch(() => undefined);
    const given = Object.fromEntries(Object.entries(tls).filter(([, value]) => value !== undefined));
    const agent = new Agent({
      headersTimeout: headersTimeoutMs,
      bodyTimeout: bodyTimeoutMs,
      connect: { timeout: connectTimeoutMs, ...given },
    });
    this.#agent = { tls, agent };
    return agent;
  }
}

function unreachable(server: URL, error: unknown): RegistryError {
  const { code } = error as { readonly code?: unknown };
  const what = `kubernetes api server ${server.host}`;
  const untrusted = certificateProblem(code)?.replace(/: trust it.*/, ': see certificate-authority of the kubeconfig');
  if (untrusted !== undefined) return new RegistryError('UNTRUSTED', `${what}: ${untrusted}`, { cause: error });
  const why = typeof code === 'string' ? wordsFor(code) : 'the connection failed';
  return new RegistryError('UNREACHABLE', `${what}: ${why}`, { cause: error });
}
