/** Aborts after `ms`. AbortSignal.timeout() does not where AbortSignal.any() is all that uses it: the garbage collector takes it away. */
export class TimeLimit implements Disposable {
  readonly #controller = new AbortController();
  readonly #timer: NodeJS.Timeout;

  /** `ms`: below 2^31. Does not keep the process alive. */
  constructor(ms: number) {
    const end = () => this.#controller.abort(new DOMException(`not done in ${ms} ms`, 'TimeoutError'));
    this.#timer = setTimeout(end, ms).unref();
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}
