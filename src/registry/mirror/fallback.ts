// One operation on endpoints in their order, until one of them does it.
import { RegistryError, hasCode } from '../errors.ts';
import type { RegistryErrorCode } from '../errors.ts';
import type { Registry } from '../interface.ts';
import type { EndpointHealth } from './endpoint-health.ts';

export interface RankedEndpoint {
  readonly name: string;
  readonly registry: Registry;
  readonly health: EndpointHealth;
  /** Place in the order given. */
  readonly rank: number;
}

export interface FallbackEvent {
  /** Of the endpoint that was given up. */
  readonly name: string;
  /** The method, such as `getBlob`. */
  readonly operation: string;
  readonly code: RegistryErrorCode;
  readonly error: unknown;
}

export interface FallbackOptions {
  readonly operation: string;
  readonly endpoints: readonly RankedEndpoint[];
  readonly signal: AbortSignal | undefined;
  readonly onFallback: (event: FallbackEvent) => void;
}

interface Failure {
  readonly endpoint: RankedEndpoint;
  readonly error: unknown;
}

export class Fallback {
  readonly #options: FallbackOptions;
  readonly #left: RankedEndpoint[];
  readonly #failures: Failure[] = [];
  #current: RankedEndpoint | undefined;

  constructor(options: FallbackOptions) {
    this.#options = options;
    this.#left = inOrderOfHealth(options.endpoints);
  }

  /** The first endpoint that was not tried yet and can do `work`. Errors: the most telling one; what is the caller's own fault; the signal's reason. */
  async next<T>(work: (registry: Registry) => Promise<T>): Promise<T> {
    for (let endpoint = this.#left.shift(); endpoint !== undefined; endpoint = this.#left.shift()) {
      this.#current = endpoint;
      try {
        return await work(endpoint.registry);
      } catch (error) {
        this.failed(error);
      }
    }
    throw this.#mostTelling();
  }

  succeeded(): void {
    this.#current?.health.succeeded();
  }

  /** The endpoint of the last `next` is given up. Errors: `error` when the caller is to blame for it; the signal's reason. */
  failed(error: unknown): void {
    const { operation, signal, onFallback } = this.#options;
    signal?.throwIfAborted();
    const endpoint = this.#current;
    if (endpoint === undefined || isCallersFault(error)) throw error;
    if (isUnfit(error)) endpoint.health.failed(error.retryAfterMs);
    this.#failures.push({ endpoint, error });
    if (this.#left.length > 0) onFallback({ name: endpoint.name, operation, code: codeOf(error), error });
  }

  /**
   * The last endpoint is the origin, which knows best. When it was out of reach, another one's refusal says more; that a mirror lacks
   * something says nothing about whether it exists.
   */
  #mostTelling(): unknown {
    const { operation } = this.#options;
    const failures = this.#failures.sort((a, b) => a.endpoint.rank - b.endpoint.rank);
    const last = failures.at(-1);
    if (last === undefined) return new RegistryError('UNSUPPORTED', `no endpoint is there for ${operation}`);
    const refused = failures.findLast(({ error }) => !isOutOfReach(error) && !isNotFound(error));
    const told = isOutOfReach(last.error) && refused !== undefined ? refused : last;
    if (failures.length === 1) return told.error;
    const others = failures.filter((failure) => failure !== told);
    const message = `${textOf(told)}; also ${others.map(textOf).join('; ')}`;
    const facts = told.error instanceof RegistryError ? told.error : {};
    const { status, retryAfterMs, detail, away } = facts as Partial<RegistryError>;
    return new RegistryError(codeOf(told.error), message, { status, retryAfterMs, detail, away, cause: told.error });
  }
}

/** Those that failed lately come last: asked only for what no other has. */
export function inOrderOfHealth(endpoints: readonly RankedEndpoint[]): RankedEndpoint[] {
  return [...endpoints.filter(({ health }) => !health.cooling), ...endpoints.filter(({ health }) => health.cooling)];
}

function isCallersFault(error: unknown): boolean {
  if (hasCode(error, 'NAME_INVALID', 'TAG_INVALID')) return true;
  // With status 200 or 206 the endpoint was wrong about the range.
  return hasCode(error, 'RANGE_INVALID') && (error.status === undefined || error.status === 416);
}

/** Failures that are likely to come again at once: out of reach, not to be trusted, or with content that is not what it is called. */
function isUnfit(error: unknown): error is RegistryError {
  return isOutOfReach(error) || hasCode(error, 'DIGEST_INVALID', 'SIZE_INVALID', 'UNTRUSTED', 'CONFIG_INVALID');
}

function isOutOfReach(error: unknown): error is RegistryError {
  return error instanceof RegistryError && error.retryable;
}

function isNotFound(error: unknown): boolean {
  return hasCode(error, 'BLOB_UNKNOWN', 'MANIFEST_UNKNOWN', 'NAME_UNKNOWN', 'BLOB_UPLOAD_UNKNOWN');
}

function codeOf(error: unknown): RegistryErrorCode {
  return error instanceof RegistryError ? error.code : 'UNKNOWN';
}

function textOf({ endpoint, error }: Failure): string {
  return `${endpoint.name}: ${error instanceof Error ? error.message : String(error)}`;
}
