// Whether an endpoint is asked at all. After several failures in a row it is left alone for a growing while, and then asked by one request at a
// time until one is answered. What nobody waits for stays away sooner and for longer.
import type { Clock } from '../../util/clock.ts';
import { systemClock } from '../../util/clock.ts';
import { RegistryError } from '../errors.ts';
import type { WhenAway } from '../interface.ts';

export interface CircuitBreakerOptions {
  /** Of the endpoint, for messages. */
  readonly name: string;
  /** Others have the same content: nobody waits for this one. */
  readonly hasOthers?: boolean | undefined;
  readonly clock?: Clock | undefined;
  /** It is left alone from now on, or answers again: once for each change. */
  readonly onChange?: ((status: EndpointStatus) => void) | undefined;
  /** It answers again, after those that yield at least had to stay away. */
  readonly onReturn?: (() => void) | undefined;
}

export interface EndpointStatus {
  readonly endpoint: string;
  /** `probing`: a request is under way that decides. */
  readonly state: 'answering' | 'away' | 'probing';
  /** In a row; requests that failed together count once. */
  readonly failures: number;
  /** ms since the first of these, and until the endpoint is asked again for somebody who waits. */
  readonly failingMs: number;
  readonly askedInMs: number;
  /** Of the last failure, without secrets; undefined while there is none. */
  readonly why: string | undefined;
}

/** Leave for one request. */
export interface Pass {
  /** It was answered. Of this and `failed` only the first call counts. */
  answered(): void;
  /** Returns what the caller is to be told: who does not wait, with the last of several failures in a row also that the endpoint is left alone now. */
  failed(error: unknown): unknown;
}

interface Lane {
  /** Failures in a row from which on the endpoint is left alone. */
  readonly limit: number;
  /** ms until it is asked again: at first, doubling, and at most. */
  readonly firstMs: number;
  readonly mostMs: number;
}

const lanes = {
  urgent: { limit: 5, firstMs: 500, mostMs: 5_000 },
  yielding: { limit: 2, firstMs: 2_000, mostMs: 60_000 },
} as const satisfies Readonly<Record<string, Lane>>;
type LaneName = keyof typeof lanes;

/** A request that decides and does not come back for so long stands in the way of no other. ms. */
const longestProbeMs = 5_000;

export class CircuitBreaker {
  readonly #o: CircuitBreakerOptions;
  readonly #clock: Clock;
  #failures = 0;
  /** Changes with each failure: what began before the last one and fails too failed together with it. */
  #round = 0;
  #failingSince = 0;
  #why: RegistryError | undefined;
  /** When the next request is let through, by lane. */
  readonly #nextAt: Record<LaneName, number> = { urgent: 0, yielding: 0 };
  readonly #probes = new Set<Pass>();

  constructor(options: CircuitBreakerOptions) {
    this.#o = options;
    this.#clock = options.clock ?? systemClock;
  }

  get status(): EndpointStatus {
    const { name } = this.#o;
    const now = this.#clock.now();
    const isAway = this.#isAway('urgent');
    return {
      endpoint: name,
      state: !isAway ? 'answering' : this.#probes.size > 0 ? 'probing' : 'away',
      failures: this.#failures,
      failingMs: this.#failures === 0 ? 0 : now - this.#failingSince,
      askedInMs: isAway ? this.#leftMs('urgent') : 0,
      why: this.#failures === 0 ? undefined : this.#why?.message,
    };
  }

  /** Errors: as the last failure, with `away` and the time after which it may be tried again; nothing was sent then. */
  enter(whenAway: WhenAway = 'wait'): Pass {
    const lane = whenAway === 'yield' ? 'yielding' : 'urgent';
    const isProbe = this.#isAway(lane);
    if (isProbe) {
      const leftMs = this.#leftMs(lane);
      if (leftMs > 0) throw this.#refusal(leftMs, whenAway);
      this.#nextAt[lane] = this.#clock.now() + longestProbeMs;
    }
    return this.#pass(lane, whenAway, { isProbe });
  }

  #pass(lane: LaneName, whenAway: WhenAway, { isProbe }: { readonly isProbe: boolean }): Pass {
    const round = this.#round;
    let isOver = false;
    const end = (judge: () => void) => {
      if (!isOver) judge();
      isOver = true;
      this.#probes.delete(pass);
    };
    const pass: Pass = {
      answered: () => end(() => this.#answered()),
      failed: (error) => {
        end(() => {
          if (isAnswer(error)) this.#answered();
          else if (isOutage(error)) this.#failed(error, round);
          // It says nothing about the endpoint: the next one may ask at once.
          else if (isProbe && round === this.#round) this.#nextAt[lane] = 0;
        });
        const isTold = whenAway !== 'wait' && isOutage(error) && this.#isAway(lane);
        return isTold ? this.#refusal(this.#leftMs(lane), whenAway) : error;
      },
    };
    if (isProbe) this.#probes.add(pass);
    return pass;
  }

  /** Until the next request is let through. */
  #leftMs(lane: LaneName): number {
    return Math.max(0, this.#nextAt[lane] - this.#clock.now());
  }

  #isAway(lane: LaneName): boolean {
    return this.#failures >= lanes[lane].limit;
  }

  #answered(): void {
    const [wasAway, hasStopped] = [this.#isAway('urgent'), this.#isAway('yielding')];
    this.#failures = 0;
    this.#round += 1;
    if (wasAway) this.#o.onChange?.(this.status);
    if (hasStopped) this.#o.onReturn?.();
  }

  #failed(error: RegistryError, round: number): void {
    if (round !== this.#round) return;
    const wasAway = this.#isAway('urgent');
    const now = this.#clock.now();
    if (this.#failures === 0) this.#failingSince = now;
    this.#round += 1;
    this.#failures += 1;
    this.#why = error;
    for (const name of ['urgent', 'yielding'] as const) {
      const { limit, firstMs, mostMs } = lanes[name];
      const times = Math.min(30, Math.max(0, this.#failures - limit));
      // Many nodes lose a registry at the same moment, and must not all come back at one.
      this.#nextAt[name] = now + Math.min(mostMs, firstMs * 2 ** times) * (0.5 + this.#clock.random() / 2);
    }
    if (!wasAway && this.#isAway('urgent')) this.#o.onChange?.(this.status);
  }

  #refusal(retryAfterMs: number, whenAway: WhenAway): RegistryError {
    const { name, hasOthers = false } = this.#o;
    const message = `${name} is left alone after ${this.#failures} failures in a row: ${this.#why?.message ?? ''}`;
    const retried = hasOthers || whenAway !== 'wait';
    const { code = 'UNREACHABLE', status } = this.#why ?? {};
    return new RegistryError(code, message, { status, retryAfterMs, retried, away: true, cause: this.#why });
  }
}

/** Also one that refuses what was asked for. */
function isAnswer(error: unknown): boolean {
  return error instanceof RegistryError && error.status !== undefined && !error.retryable;
}

/** A registry that wants fewer requests is there, and what this machine lacks is not the registry's fault. */
function isOutage(error: unknown): error is RegistryError {
  if (!(error instanceof RegistryError) || !error.retryable || error.away) return false;
  return error.code !== 'TOOMANYREQUESTS' && !isOfThisMachine(error.cause);
}

const localCodes: ReadonlySet<unknown> = new Set([
  'EMFILE',
  'ENFILE',
  'ENOMEM',
  'ENOBUFS',
  'EADDRNOTAVAIL',
  'UND_ERR_DESTROYED',
  'UND_ERR_CLOSED',
]);

function isOfThisMachine(cause: unknown): boolean {
  return cause instanceof Error && 'code' in cause && localCodes.has(cause.code);
}
