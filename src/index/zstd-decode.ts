import binding from 'zstd-napi/binding.js';
import { formatError, IndexError } from './errors.ts';

// One for all: it is used up between two statements, and making one costs more than a small frame does.
const context = new binding.DCtx();

/**
 * Decodes zstd data that must come out as exactly `size` bytes, whatever it says about itself. `what` names it in messages.
 * Errors: ERR_INDEX_FORMAT.
 */
export function decodeZstd(data: Uint8Array, size: number, what: string): Uint8Array {
  const output = Buffer.allocUnsafeSlow(size);
  const decoded = decodeZstdInto(output, data, what);
  if (decoded !== size) throw formatError(`${what} decodes to ${decoded} bytes instead of ${size}`);
  return output;
}

/** Decodes zstd data that need not fill `output`, and returns the size. Errors: ERR_INDEX_FORMAT. */
export function decodeZstdInto(output: Uint8Array, data: Uint8Array, what: string): number {
  try {
    return context.decompress(output, data);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    const message = `${what} cannot be decoded to ${output.length} bytes: ${reason}`;
    throw new IndexError('ERR_INDEX_FORMAT', message, { cause: error });
  }
}
