/** ms in which whoever was handed a slot makes a snapshot that shows it; he does so at once, if he does at all. */
const pinMs = 30_000;

/** Slots that were handed out and that a snapshot is about to show: until it does, nothing else says that they are used. */
export class SlotPins {
  readonly #pins = new Map<number, { count: number; at: number }>();

  add(slot: number): void {
    this.#pins.set(slot, { count: (this.#pins.get(slot)?.count ?? 0) + 1, at: performance.now() });
  }

  /** The time counts from now. */
  renew(slot: number): void {
    const pin = this.#pins.get(slot);
    if (pin !== undefined) pin.at = performance.now();
  }

  /** The snapshots that showed these are gone; one that was promised to somebody else meanwhile keeps its pin. */
  released(slots: readonly number[]): void {
    for (const slot of slots) {
      const pin = this.#pins.get(slot);
      if (pin === undefined) continue;
      pin.count -= 1;
      if (pin.count <= 0) this.#pins.delete(slot);
    }
  }

  has(slot: number): boolean {
    const pin = this.#pins.get(slot);
    if (pin === undefined) return false;
    if (performance.now() - pin.at < pinMs) return true;
    this.#pins.delete(slot);
    return false;
  }
}
