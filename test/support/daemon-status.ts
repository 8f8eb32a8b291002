// What tests read of `peel status --json`.

export interface SeenLayer {
  readonly slot: number;
  readonly image: string;
  readonly layer: string;
  /** `lazy`, `complete`, … */
  readonly served: string;
  readonly percent: number;
}

export interface SeenDeferral {
  readonly code: string;
  readonly reason: string;
  readonly image: string | undefined;
}

export interface SeenStatus {
  readonly layers: readonly SeenLayer[];
  /** Layers that were left to containerd. */
  readonly deferred: readonly SeenDeferral[];
}

export function seenStatus(value: unknown): SeenStatus {
  return value as SeenStatus;
}
