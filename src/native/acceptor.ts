import { addon } from './addon.ts';

/** What native/src/binding/acceptor.cpp exports; `handle` is opaque. */
interface Native {
  acceptorStart(fd: number, onConnection: (fd: number) => void): object;
  acceptorStop(handle: object): void;
}

/**
 * Takes connections from a listening socket on a thread of its own, also when this process or the system may open no more files: a few file
 * descriptors are kept for that. When those are in use as well, whoever connects waits until another one has ended.
 */
export class Acceptor {
  readonly #native = addon() as Native;
  #handle: object | undefined;

  private constructor(fd: number, onConnection: (fd: number) => void) {
    this.#handle = this.#native.acceptorStart(fd, onConnection);
  }

  /**
   * The listening socket is the acceptor's from now on, and each connection is who is called's. Keeps the process alive until `stop`. Throws
   * with an errno code.
   */
  static start(fd: number, onConnection: (fd: number) => void): Acceptor {
    return new Acceptor(fd, onConnection);
  }

  /** Closes the listening socket. Idempotent. */
  stop(): void {
    if (this.#handle !== undefined) this.#native.acceptorStop(this.#handle);
    this.#handle = undefined;
  }
}
