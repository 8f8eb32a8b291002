import type { DeferralCode } from './layer-provider.ts';

/** `unpacked`: by peel. `found`: the snapshot was there already, for another namespace or another call. */
export type PrepareOutcome = 'served' | 'unpacked' | 'found' | DeferralCode;

export interface PrepareReport {
  readonly outcome: PrepareOutcome;
  readonly milliseconds: number;
}

/** What became of the layers that containerd asked for since the start. */
export class PrepareOutcomes {
  readonly #counts: Record<PrepareOutcome, number> = {
    served: 0,
    unpacked: 0,
    found: 0,
    mode: 0,
    formats: 0,
    labels: 0,
    no_index: 0,
    layer: 0,
    timeout: 0,
    registry: 0,
    disk: 0,
    error: 0,
  };
  readonly #report: ((report: PrepareReport) => void) | undefined;

  constructor(report: ((report: PrepareReport) => void) | undefined) {
    this.#report = report;
  }

  add(outcome: PrepareOutcome, startedAt: number): void {
    this.#counts[outcome] += 1;
    this.#report?.({ outcome, milliseconds: performance.now() - startedAt });
  }

  get counts(): Readonly<Record<PrepareOutcome, number>> {
    return { ...this.#counts };
  }
}
