import type { ReadStream } from 'node:tty';
import type { CliContext } from './context.ts';
import { UsageError } from './errors.ts';

/** Errors: UsageError when there is nobody to ask, or nothing was given. */
export function readPassword(context: CliContext, prompt: string, fromStdin: boolean): Promise<string> {
  if (fromStdin) return passwordFromStdin(process.stdin);
  if (process.stdin.isTTY) return askPassword(process.stdin, prompt, context.signal);
  throw new UsageError('stdin is no terminal: give --password-stdin');
}

/** All of stdin without its last newline, e.g. `pass show registry | peel login --password-stdin`. */
export async function passwordFromStdin(stdin: NodeJS.ReadableStream): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stdin) chunks.push(Buffer.from(chunk));
  const password = Buffer.concat(chunks)
    .toString('utf8')
    .replace(/\r?\n$/, '');
  if (password === '') throw new UsageError('no password on stdin');
  return password;
}

/** Asks on the terminal without echo. */
export async function askPassword(stdin: ReadStream, prompt: string, signal: AbortSignal): Promise<string> {
  process.stderr.write(prompt);
  stdin.setRawMode(true);
  try {
    let typed = '';
    for await (const chunk of stdin) {
      signal.throwIfAborted();
      for (const char of Buffer.from(chunk).toString('utf8')) {
        if (char === '\r' || char === '\n') return typed;
        // In raw mode the terminal turns neither of these into what it means.
        if (char === '\u0003' || char === '\u0004') throw new UsageError('no password given');
        typed = char === '\u007f' ? typed.slice(0, -1) : typed + char;
      }
    }
    return typed;
  } finally {
    stdin.setRawMode(false);
    process.stderr.write('\n');
  }
}
