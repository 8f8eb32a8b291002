import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { problemsError } from './problem.ts';

const maxBytes = 1 << 20;

/** `mayMiss`: no file is an empty one. Errors: ERR_CONFIG_FILE. */
export async function readConfigFile(file: string, { mayMiss = false } = {}): Promise<string> {
  const fail = (what: string) => problemsError([{ source: file, what }]);
  try {
    // Without waiting for the writer of a pipe, which may never come.
    await using handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
    const stat = await handle.stat();
    if (!stat.isFile()) throw fail('not a file');
    if (stat.size > maxBytes) throw fail(`larger than a configuration may be, ${maxBytes} bytes`);
    // A file that grows meanwhile is cut and then no TOML, or the rest is read the next time.
    const bytes = Buffer.alloc(stat.size);
    const { bytesRead } = await handle.read(bytes, 0, stat.size, 0);
    const text = decode(bytes.subarray(0, bytesRead));
    if (text === undefined) throw fail('not UTF-8');
    return text;
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : '';
    if (mayMiss && code === 'ENOENT') return '';
    if (code === 'ERR_CONFIG_FILE') throw cause;
    throw fail(code === 'ENOENT' ? 'no such file' : `cannot be read (${code})`);
  }
}

function decode(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return undefined;
  }
}
