import type { ByteString } from '../util/byte-string.ts';
import { TreeError } from './errors.ts';

/** The kernel reads targets into one page with a NUL behind them. */
const maxTarget = 4095;

/**
 * Whether a symbolic link can have this target. `what` starts the message when not.
 * Errors: ERR_TREE_SYMLINK.
 */
export function checkLinkTarget(link: ByteString, what: () => string): void {
  const refuse = (detail: string): TreeError =>
    new TreeError('ERR_TREE_SYMLINK', `${what()} is a symbolic link ${detail}`);
  if (link === '') throw refuse('without a target');
  if (link.includes('\0')) throw refuse('with a NUL byte in its target');
  if (link.length > maxTarget) throw refuse(`to a target of ${link.length} bytes, more than ${maxTarget}`);
}
