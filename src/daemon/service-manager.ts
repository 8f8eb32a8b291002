// sd_notify(3): what the service manager that started us is told.
import { errorMessage } from '../layer/errors.ts';
import { notifyServiceManager } from '../native/sys.ts';
import type { Logger } from '../observe/log.ts';

export interface ServiceManagerOptions {
  /** Undefined: nobody wants to know. */
  readonly socket: string | undefined;
  readonly watchdogMs: number | undefined;
  /** Throws when the daemon is not well enough to be left alone. */
  readonly check: () => void;
  readonly log: Logger;
}

export class ServiceManager {
  readonly #o: ServiceManagerOptions;
  #watchdog: NodeJS.Timeout | undefined;
  #isStopping = false;

  constructor(options: ServiceManagerOptions) {
    this.#o = options;
  }

  /** From now on the watchdog is fed as well. Nothing once it is stopping. */
  ready(status: string): void {
    if (this.#isStopping) return;
    this.#send(`READY=1\nSTATUS=${oneLine(status)}`);
    const { socket, watchdogMs } = this.#o;
    if (socket === undefined || watchdogMs === undefined || this.#watchdog !== undefined) return;
    // A timer: an event loop that is stuck is what the watchdog is for.
    this.#watchdog = setInterval(() => this.#feed(), watchdogMs / 2).unref();
    this.#feed();
  }

  /** Followed by `ready`. The time is CLOCK_MONOTONIC, as Type=notify-reload wants it. */
  reloading(): void {
    if (this.#isStopping) return;
    this.#send(
      `RELOADING=1\nMONOTONIC_USEC=${process.hrtime.bigint() / 1000n}\nSTATUS=reading the configuration again`,
    );
  }

  stopping(): void {
    this.#isStopping = true;
    clearInterval(this.#watchdog);
    this.#watchdog = undefined;
    this.#send('STOPPING=1\nSTATUS=stopping; mounts stay');
  }

  #feed(): void {
    try {
      this.#o.check();
      this.#send('WATCHDOG=1');
    } catch (error) {
      this.#o.log.error({ error: errorMessage(error) }, 'not well: the watchdog is not fed');
    }
  }

  #send(text: string): void {
    const { socket, log } = this.#o;
    if (socket === undefined) return;
    try {
      notifyServiceManager(socket, text);
    } catch (error) {
      log.warn({ error: errorMessage(error) }, 'cannot reach the service manager');
    }
  }
}

function oneLine(text: string): string {
  return text.replaceAll('\n', ' ');
}
