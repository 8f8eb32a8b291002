// Globs over names as bytes: `*` and `?` stop at `/`, `**` does not, `[a-z]` and `[!a-z]` as in a shell, `\` quotes.
import type { ByteString } from '../util/byte-string.ts';
import { UsageError } from './errors.ts';

const utf8Sequence =
  /[\x80-\xc1\xf5-\xff]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xef][\x80-\xbf]{2}|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2}|[\xc2-\xf4]/g;

/**
 * A test for absolute paths. A glob with a `/` in it is matched against the whole path (a leading `/` may be left out),
 * one without against the last name. Errors: UsageError for an unclosed `[`, a trailing `\` or an impossible range.
 */
export function globMatcher(glob: string): (path: ByteString) => boolean {
  if (glob === '') throw new UsageError('the glob is empty');
  const whole = glob.includes('/');
  const pattern = compile(glob, translate(glob, whole ? glob.replace(/^\/*/, '/') : glob));
  return (path) => pattern.test(characters(whole ? path : path.slice(path.lastIndexOf('/') + 1)));
}

/** UTF-8 decoded; a byte that is part of no character becomes one of its own, a lone surrogate that no text contains. */
function characters(bytes: string): string {
  return bytes.replace(utf8Sequence, (sequence) => {
    if (sequence.length === 1) return strayByte(sequence);
    const text = Buffer.from(sequence, 'latin1').toString('utf8');
    // Encoded surrogates (ed a0 80 …) are no UTF-8 either.
    return text.includes('\ufffd') && sequence !== '\xef\xbf\xbd' ? Array.from(sequence, strayByte).join('') : text;
  });
}

function strayByte(byte: string): string {
  return String.fromCharCode(0xdc00 + byte.charCodeAt(0));
}

function compile(glob: string, source: string): RegExp {
  try {
    return new RegExp(`^${source}$`, 'su');
  } catch (cause) {
    throw new UsageError(`glob ${JSON.stringify(glob)}: a range in [ ] is upside down`, { cause });
  }
}

function translate(typed: string, glob: string): string {
  const chars = Array.from(glob);
  let out = '';
  for (let i = 0; i < chars.length; i += 1) {
    const char = chars[i] ?? '';
    if (char === '*' && chars[i + 1] === '*') {
      i += 1;
      // `/**/` also stands for a single slash.
      const wholeNames = chars[i - 2] === '/' && chars[i + 1] === '/';
      if (wholeNames) i += 1;
      out += wholeNames ? '(?:.*/)?' : '.*';
    } else if (char === '*') out += '[^/]*';
    else if (char === '?') out += '[^/]';
    else if (char === '[') {
      const end = classEnd(chars, i);
      if (end < 0) throw new UsageError(`glob ${JSON.stringify(typed)}: [ without ]`);
      out += characterClass(chars.slice(i + 1, end));
      i = end;
    } else if (char === '\\') {
      i += 1;
      if (i === chars.length) throw new UsageError(`glob ${JSON.stringify(typed)}: nothing after the last \\`);
      out += literal(chars[i] ?? '');
    } else out += literal(char);
  }
  return out;
}

/** Index of the `]` that closes the class at `start`; one right behind `[` or `[!` is a member. */
function classEnd(chars: readonly string[], start: number): number {
  const negated = chars[start + 1] === '!' || chars[start + 1] === '^';
  return chars.indexOf(']', start + (negated ? 3 : 2));
}

function characterClass(body: readonly string[]): string {
  const negated = body[0] === '!' || body[0] === '^';
  const members = negated ? body.slice(1) : body;
  let inside = '';
  for (let i = 0; i < members.length; i += 1) {
    const to = members[i + 1] === '-' ? members[i + 2] : undefined;
    inside += literal(members[i] ?? '') + (to === undefined ? '' : `-${literal(to)}`);
    if (to !== undefined) i += 2;
  }
  return `(?!/)[${negated ? '^' : ''}${inside}]`;
}

function literal(char: string): string {
  return `\\u{${(char.codePointAt(0) ?? 0).toString(16)}}`;
}
