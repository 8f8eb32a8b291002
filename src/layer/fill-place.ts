interface FillPlaceActions {
  readonly turn: (signal: AbortSignal) => Promise<void>;
  readonly spend: (bytes: number) => void;
  readonly touched: () => void;
  readonly rests: () => void;
  readonly leave: () => void;
}

/** One layer among those that are to be filled. */
export class FillPlace {
  readonly #actions: FillPlaceActions;
  #touchedAt = 0;
  #rests = false;

  constructor(actions: FillPlaceActions) {
    this.#actions = actions;
  }

  /** ms of `performance.now()`; 0 for what was not touched yet. */
  get touchedAt(): number {
    return this.#touchedAt;
  }

  get rests(): boolean {
    return this.#rests;
  }

  touched(at: number): void {
    if (at <= this.#touchedAt) return;
    this.#touchedAt = at;
    this.#actions.touched();
  }

  /** Resolves when about `turnBytes` may be asked for, which is to be told by `spend()`. Errors: the signal's reason. */
  async turn(signal: AbortSignal): Promise<void> {
    this.#rests = false;
    await this.#actions.turn(signal);
  }

  spend(bytes: number): void {
    this.#actions.spend(bytes);
  }

  /** Others go first until the next `turn()`. */
  rest(): void {
    this.#rests = true;
    this.#actions.rests();
  }

  leave(): void {
    this.#actions.leave();
  }
}
