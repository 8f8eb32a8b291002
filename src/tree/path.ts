import { type ByteString, displayBytes } from '../util/byte-string.ts';
import { TreeError } from './errors.ts';

/** Bytes of one name, as every Linux file system has it. */
export const NAME_MAX = 255;
/** Bytes of a whole path. Longer than PATH_MAX, which limits callers, not file systems. */
export const MAX_PATH = 65_535;

const SLASH = 0x2f;
const DOT = 0x2e;

/**
 * The path relative to the root, `a/b/c` or empty for the root itself: leading `/`, and `.` and empty components anywhere
 * are dropped. `what` starts the message when it is refused.
 * Errors: ERR_TREE_PATH for `..` components, NUL bytes, names over 255 bytes; ERR_TREE_LIMIT for paths over 65 535.
 */
export function cleanPath(path: ByteString, what: () => string): ByteString {
  if (isClean(path)) return path;
  if (path.length > MAX_PATH) {
    const start = displayBytes(path.slice(0, 100) as ByteString);
    throw new TreeError('ERR_TREE_LIMIT', `${what()}: path of ${path.length} bytes, more than ${MAX_PATH} (${start}…)`);
  }
  let end = path.length;
  while (end > 0 && path.charCodeAt(end - 1) === SLASH) end--;
  let begin = 0;
  while (begin < end && path.charCodeAt(begin) === SLASH) begin++;
  while (begin + 1 < end && path.charCodeAt(begin) === DOT && path.charCodeAt(begin + 1) === SLASH) begin += 2;
  let plain = true;
  let start = begin;
  for (let i = begin; i <= end; i++) {
    const code = i === end ? SLASH : path.charCodeAt(i);
    if (code === 0) throw new TreeError('ERR_TREE_PATH', `${what()}: the name has a NUL byte`);
    if (code !== SLASH) continue;
    const length = i - start;
    if (length > NAME_MAX)
      throw new TreeError('ERR_TREE_PATH', `${what()}: a name of ${length} bytes, more than ${NAME_MAX}`);
    if (length === 0 || (length === 1 && path.charCodeAt(start) === DOT)) plain = false;
    else if (length === 2 && path.charCodeAt(start) === DOT && path.charCodeAt(start + 1) === DOT) {
      throw new TreeError('ERR_TREE_PATH', `${what()}: the path leaves the tree through ".."`);
    }
    start = i + 1;
  }
  const inner = begin === 0 && end === path.length ? path : (path.slice(begin, end) as ByteString);
  if (plain) return inner;
  return inner
    .split('/')
    .filter((name) => name !== '' && name !== '.')
    .join('/') as ByteString;
}

/** Whether nothing has to be dropped or refused: found without looking at each byte here, which few paths need. */
function isClean(path: ByteString): boolean {
  return (
    path.length <= NAME_MAX &&
    !path.startsWith('/') &&
    !path.endsWith('/') &&
    // Every component `.` or `..` ends in one of these.
    !path.endsWith('.') &&
    !path.includes('./') &&
    !path.includes('//') &&
    !path.includes('\0')
  );
}
