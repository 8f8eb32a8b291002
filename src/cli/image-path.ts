// Paths inside an image as people type them, and finding what they name. Symlinks are followed inside the image only.
import { lookup } from '../tree/lookup.ts';
import type { Tree, TreeNode } from '../tree/tree.ts';
import { type ByteString, byteStringFrom, byteStringFromText, displayBytes } from '../util/byte-string.ts';
import { CommandError } from './errors.ts';

export interface Located {
  /** Absolute, `/` for the root, without `.`, `..` or doubled slashes; symlinks of the way are not resolved. */
  readonly path: ByteString;
  readonly node: TreeNode;
}

/**
 * Finds what `text` names. A name that is not UTF-8 may be typed the way the listings show it (`caf\xe9`); a name that
 * really has a backslash wins. `follow`: whether a symlink in the last place is followed (those before it always are).
 * Errors: CommandError ENOENT; TreeError ERR_TREE_LOOP.
 */
export function locate(tree: Tree, text: string, options: { follow: boolean }): Located {
  const literal = byteStringFromText(text);
  try {
    return { path: cleanPath(literal), node: find(tree, literal, options.follow, text) };
  } catch (error) {
    const unescaped = unescapeBytes(text);
    if (unescaped === literal) throw error;
    return { path: cleanPath(unescaped), node: find(tree, unescaped, options.follow, text) };
  }
}

/** `/usr//lib/./x/..` → `/usr/lib`; what is shown and matched; finding follows the path as typed. */
export function cleanPath(path: ByteString): ByteString {
  const names: string[] = [];
  for (const name of path.split('/')) {
    if (name === '..') names.pop();
    else if (name !== '' && name !== '.') names.push(name);
  }
  return `/${names.join('/')}` as ByteString;
}

export function joinPath(dir: ByteString, name: ByteString): ByteString {
  return (dir === '/' ? `/${name}` : `${dir}/${name}`) as ByteString;
}

export function baseName(path: ByteString): ByteString {
  return path.slice(path.lastIndexOf('/') + 1) as ByteString;
}

function find(tree: Tree, path: ByteString, follow: boolean, typed: string): TreeNode {
  const node = lookup(tree, path, { follow: follow || path.endsWith('/') });
  if (!node) {
    // Node has replaced what was not UTF-8 on the command line before we see it.
    const hint = typed.includes('\ufffd') ? ' (write bytes that are not UTF-8 as \\xff)' : '';
    throw new CommandError(`${typed}: no such file or directory in the image${hint}`, { code: 'ENOENT' });
  }
  return node;
}

function unescapeBytes(text: string): ByteString {
  const bytes = byteStringFromText(text).replace(/\\x([0-9a-f]{2})/g, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
  return byteStringFrom(Buffer.from(bytes, 'latin1'));
}

/** How a path stands in JSON: text for people, and the exact bytes when the text does not say them. */
export function jsonPath(path: ByteString): { path: string; pathBase64?: string } {
  const shown = displayBytes(path);
  if (byteStringFromText(shown) === path) return { path: shown };
  return { path: shown, pathBase64: Buffer.from(path, 'latin1').toString('base64') };
}
