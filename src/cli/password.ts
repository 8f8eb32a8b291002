import { addAbortSignal } from 'node:stream';
import type { Readable } from 'node:stream';
import type { ReadStream } from 'node:tty';
import type { CliContext } from './context.ts';
import { UsageError } from './errors.ts';

const maxPasswordBytes = 64 * 1024;

/** Errors: UsageError when there is nobody to ask, or nothing was given. */
export function readPassword(context: CliContext, prompt: string, fromStdin: boolean): Promise<string> {
  if (fromStdin) return passwordFromStdin(process.stdin, context.signal);
  if (process.stdin.isTTY) return askPassword(process.stdin, prompt, context.signal);
  throw new UsageError('stdin is no terminal: give --password-stdin');
}

/** All of stdin without its last newline, e.g. `pass show registry | peel login --password-stdin`. */
export async function passwordFromStdin(stdin: Readable, signal: AbortSignal): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of addAbortSignal(signal, stdin)) {
    chunks.push(Buffer.from(chunk));
    size += chunk.length;
    if (size > maxPasswordBytes) throw new UsageError(`the password on stdin has more than ${maxPasswordBytes} bytes`);
  }
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
    for await (const chunk of addAbortSignal(signal, stdin)) {
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
