/** Outcomes this many bytes ago count half as much as those of now. */
const halfLife = 16 * 1024 * 1024;
/** What is believed before anything is known. */
const prior = { right: 3 * 1024 * 1024, all: 4 * 1024 * 1024 };

/** The share of guessed bytes that were read, the latest counting most. */
export class Accuracy {
  #right = prior.right;
  #all = prior.all;

  /** 0 to 1. */
  get value(): number {
    return this.#right / this.#all;
  }

  right(bytes: number): void {
    this.#decay(bytes);
    this.#right += bytes;
    this.#all += bytes;
  }

  wrong(bytes: number): void {
    this.#decay(bytes);
    this.#all += bytes;
  }

  /** What was told to be wrong was right after all. */
  rightAfterAll(bytes: number): void {
    this.#right = Math.min(this.#all, this.#right + bytes);
  }

  #decay(bytes: number): void {
    const factor = 2 ** (-bytes / halfLife);
    this.#right *= factor;
    this.#all *= factor;
  }
}
