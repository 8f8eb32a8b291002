// Messages with file descriptors beside them, over a SOCK_SEQPACKET unix socket, which Node cannot speak itself.
import { closeSync } from 'node:fs';
import { addon } from './addon.ts';

export interface FdAnswer {
  readonly text: string;
  /** Close-on-exec, and the receiver's. */
  readonly fd: number | undefined;
}

export interface FdExchange {
  /** Sent beside the request; stays the caller's, who may close it at once. */
  readonly fd?: number | undefined;
  /** For each of the answers. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

/** What native/src/binding/fd_messages.cpp exports. */
interface Native {
  fdMessagesConnect(path: string): number;
  fdMessagesCopy(fd: number): number;
  fdMessagesDisconnect(socket: number): void;
  fdMessagesExchange(socket: number, request: string, fd: number, timeoutMs: number): Promise<[string, number][]>;
}

const native = (): Native => addon() as Native;
const maxBytes = 65_536;

/** Another fd of the same open file, close-on-exec. The caller closes it. Throws EBADF, EMFILE. */
export function copyFd(fd: number): number {
  return native().fdMessagesCopy(fd);
}

/** One connection. Requests are made one after the other; after one that failed the connection is of no use. */
export class FdConnection {
  #socket: number;

  private constructor(socket: number) {
    this.#socket = socket;
  }

  /** Throws ENOENT or ECONNREFUSED where nobody listens. */
  static open(path: string): FdConnection {
    return new FdConnection(native().fdMessagesConnect(path));
  }

  /**
   * Sends a request of at most 64 KiB. Resolves with all answers that have an fd, and the first that has none, which is the last.
   * Rejects with ENOTCONN, EPIPE or ECONNRESET when the other side is gone, ETIMEDOUT, EMFILE when not all fds could be taken here, and
   * with the signal's reason.
   */
  async exchange(request: string, { fd = -1, timeoutMs, signal }: FdExchange): Promise<readonly FdAnswer[]> {
    signal?.throwIfAborted();
    const size = Buffer.byteLength(request);
    if (size === 0 || size > maxBytes)
      throw new TypeError(`a request of ${size} bytes; up to ${maxBytes} are possible`);
    if (this.#socket === -1) throw Object.assign(new Error('the connection is closed'), { code: 'ENOTCONN' });
    const onAbort = () => this.#disconnect();
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      const answers = await native().fdMessagesExchange(this.#socket, request, fd, Math.ceil(timeoutMs));
      return answers.map(([text, number]) => ({ text, fd: number === -1 ? undefined : number }));
    } catch (error) {
      signal?.throwIfAborted();
      throw error;
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
  }

  /** A request that waits for its answer fails. Idempotent. */
  close(): void {
    if (this.#socket === -1) return;
    this.#disconnect();
    closeSync(this.#socket);
    this.#socket = -1;
  }

  #disconnect(): void {
    if (this.#socket !== -1) native().fdMessagesDisconnect(this.#socket);
  }
}
