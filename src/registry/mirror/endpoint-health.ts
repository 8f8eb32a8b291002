export interface HealthOptions {
  /** How long an endpoint is left out after its first failure; twice as long after each further one. */
  readonly cooldownMs: number;
  readonly maxCooldownMs: number;
  readonly now: () => number;
}

/** Whether an endpoint is worth asking, by how it did before. */
export class EndpointHealth {
  readonly #options: HealthOptions;
  #failures = 0;
  #coolUntil = Number.NEGATIVE_INFINITY;

  constructor(options: HealthOptions) {
    this.#options = options;
  }

  get cooling(): boolean {
    return this.#options.now() < this.#coolUntil;
  }

  succeeded(): void {
    this.#failures = 0;
    this.#coolUntil = Number.NEGATIVE_INFINITY;
  }

  failed(retryAfterMs = 0): void {
    // Requests that were under way together fail together; that is one failure.
    if (this.cooling) return;
    const { cooldownMs, maxCooldownMs, now } = this.#options;
    const growing = cooldownMs * 2 ** Math.min(this.#failures, 30);
    this.#failures += 1;
    this.#coolUntil = now() + Math.min(Math.max(growing, retryAfterMs), maxCooldownMs);
  }
}
