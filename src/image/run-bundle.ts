// One container in the foreground: its streams are ours, signals go to it, and nothing of it is left when it ends.
import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { constants } from 'node:os';
import { join } from 'node:path';
import { isatty } from 'node:tty';
import { errorCode } from '../layer/errors.ts';
import { ImageError } from './errors.ts';

export interface RunBundleOptions {
  /** Of the bundle; the runtime keeps its own files in it. */
  readonly dir: string;
  readonly id: string;
  /** Hands over what sends the container a signal, until the function that it returns is called. */
  readonly takeSignals: (send: (signal: NodeJS.Signals) => void) => () => void;
}

/** Its exit code, 128 and the signal's number where that ended it. Errors: ERR_IMAGE_UNSUPPORTED when the runtime could not start it. */
export async function runBundle({ dir, id, takeSignals }: RunBundleOptions): Promise<number> {
  const log = join(dir, 'runc.log');
  const common = ['--root', join(dir, 'runc'), '--log', log, '--log-format', 'json'];
  const runc = spawn('runc', [...common, 'run', '--bundle', dir, id], { stdio: 'inherit' });
  const release = takeSignals((signal) => {
    // A terminal has told the whole group of its Ctrl-C, the runtime among it.
    if (signal !== 'SIGINT' || !isatty(0)) runc.kill(signal);
  });
  let exitCode: number;
  try {
    exitCode = await new Promise<number>((resolve, reject) => {
      runc.once('error', reject);
      runc.once('close', (code, signal) => resolve(code ?? 128 + constants.signals[signal ?? 'SIGKILL']));
    });
  } catch (cause) {
    const missing = errorCode(cause) === 'ENOENT';
    const why = missing ? 'runc, which runs the command, is not installed (apt-get install runc)' : 'runc did not run';
    throw new ImageError('ERR_IMAGE_UNSUPPORTED', why, { cause });
  } finally {
    release();
  }
  const failure = exitCode === 0 ? undefined : await failureIn(log);
  if (failure !== undefined) throw new ImageError('ERR_IMAGE_UNSUPPORTED', `runc could not start it: ${failure}`);
  return exitCode;
}

/** What the runtime itself says went wrong; undefined when it was the program in the container. */
async function failureIn(log: string): Promise<string | undefined> {
  const text = await readFile(log, 'utf8').catch(() => '');
  for (const line of text.trimEnd().split('\n').toReversed()) {
    try {
      const { level, msg } = JSON.parse(line) as { readonly level?: unknown; readonly msg?: unknown };
      if ((level === 'error' || level === 'fatal') && typeof msg === 'string')
        return msg.replace(/^runc run failed: /, '');
    } catch {
      // Cut off.
    }
  }
  return undefined;
}
