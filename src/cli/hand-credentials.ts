// The daemon fetches what `peel pull` does not, so it needs the same user: over its control socket, which only root may use.
import { request } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { readEnvironment } from '../config/environment.ts';
import { preparePaths } from '../config/paths.ts';
import type { Credentials } from '../registry/auth/credentials.ts';
import type { CliContext } from './context.ts';

const timeoutMs = 5_000;

/** Warns when there is no daemon, or it does not take them: then layers of a private image are unpacked instead of mounted. */
export async function handCredentials(
  context: CliContext,
  image: string,
  credentials: Credentials | undefined,
): Promise<void> {
  if (credentials?.kind !== 'password') return;
  const { username, password } = credentials;
  const environment = readEnvironment();
  const { runDir } = await preparePaths({ root: context.options.root, environment, uid: process.getuid?.() ?? 0 });
  const socketPath = join(runDir, 'control.sock');
  const failure = await post(socketPath, JSON.stringify({ image, username, password }), context.signal);
  context.signal.throwIfAborted();
  if (failure !== undefined)
    context.warn(
      `the daemon at ${socketPath} did not get the user for ${image} (${failure}): peel may not mount it lazily`,
    );
}

/** What went wrong. The answer is not shown: it could repeat what was sent. */
async function post(socketPath: string, body: string, signal: AbortSignal): Promise<string | undefined> {
  try {
    const answer = await new Promise<IncomingMessage>((resolve, reject) => {
      const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
      const options = {
        socketPath,
        path: '/v1/credentials',
        method: 'POST',
        headers,
        signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
      };
      request(options, resolve).on('error', reject).end(body);
    });
    answer.on('error', () => {}).destroy();
    const { statusCode = 0 } = answer;
    return statusCode >= 200 && statusCode < 300 ? undefined : `it answered ${statusCode}`;
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'no answer';
    return code === 'ENOENT' || code === 'ECONNREFUSED' ? 'it is not running' : code;
  }
}
