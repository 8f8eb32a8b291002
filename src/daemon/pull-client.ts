// A pull by the daemon, seen from whoever asks for it: tells how far it is, and is asked for credentials.
import { errorMessage } from '../layer/errors.ts';
import type { ProgressEvent } from '../observe/progress.ts';
import type { Credentials } from '../registry/auth/credentials.ts';
import type { PulledImage } from '../snapshotter/pull/pull-to-containerd.ts';
import { ControlError, fieldsOf } from './control-client.ts';
import type { ControlClient } from './control-client.ts';
import { DaemonError } from './errors.ts';
import { parsePullReport } from './pull-report.ts';
import type { CredentialsQuestion } from './pull-report.ts';
import type { PullWish } from './pull-requests.ts';

export interface PullListener {
  readonly onProgress: (progress: ProgressEvent) => void;
  readonly onWarning: (message: string) => void;
  /** The daemon does not keep the user that was given, for the reason `code`. */
  readonly onUserRefused: (code: string) => void;
  /** What this person has stored for a host; undefined means anonymous. Errors are told to the daemon. */
  readonly lookup: (
    question: CredentialsQuestion,
    options: { readonly signal: AbortSignal },
  ) => Promise<Credentials | undefined>;
}

/** ms for the daemon to undo what it began; its own limit for that is shorter. */
const undoMs = 12_000;
const stopMs = 3_000;
/** As many as the daemon takes. */
const longestError = 4096;

/**
 * An abort stops it, and waits until the daemon has undone it. Errors: ControlError with the code of what went wrong; ERR_DAEMON_ANSWER
 * when the daemon goes away; the signal's reason.
 */
export async function pullByDaemon(
  daemon: ControlClient,
  wish: PullWish,
  { signal, ...listener }: PullListener & { readonly signal: AbortSignal },
): Promise<PulledImage> {
  const connection = new AbortController();
  let pull: string | undefined;
  const stop = () => {
    const leave = () => connection.abort(signal.reason);
    if (pull === undefined) return leave();
    setTimeout(leave, undoMs).unref();
    daemon.post('/v1/pulls/stop', { pull }, { signal: AbortSignal.timeout(stopMs) }).catch(leave);
  };
  signal.throwIfAborted();
  signal.addEventListener('abort', stop, { once: true });
  try {
    for await (const line of daemon.lines('/v1/pulls', wish, { signal: connection.signal })) {
      const report = parsePullReport(line);
      if (report.kind === 'started') ({ pull } = report);
      else if (report.kind === 'progress') listener.onProgress(report.progress);
      else if (report.kind === 'warning') listener.onWarning(report.message);
      else if (report.kind === 'user-refused') listener.onUserRefused(report.code);
      else if (report.kind === 'credentials')
        answer(daemon, pull ?? '', report, { ...listener, signal }).catch((error: unknown) => connection.abort(error));
      else if (report.kind === 'ready') return report.image;
      else throw new ControlError(report.code, report.message);
    }
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener('abort', stop);
  }
  signal.throwIfAborted();
  throw new DaemonError('ERR_DAEMON_ANSWER', 'the daemon ended before the image was pulled (see peel logs)');
}

/** Errors: those of a connection that broke, without which the daemon would wait for ever. */
async function answer(
  daemon: ControlClient,
  pull: string,
  question: CredentialsQuestion,
  { lookup, signal }: Pick<PullListener, 'lookup'> & { readonly signal: AbortSignal },
): Promise<void> {
  const { ask } = question;
  const post = async (fields: object) => await daemon.post('/v1/pulls/answers', { pull, ask, ...fields }, { signal });
  try {
    const found = await lookup(question, { signal });
    await post(found === undefined ? {} : { user: fieldsOf(found) });
  } catch (error) {
    await post({ error: errorMessage(error).slice(0, longestError) }).catch((failure: unknown) => {
      // One that ended meanwhile waits for nothing.
      if (!(failure instanceof ControlError)) throw failure;
    });
  }
}
