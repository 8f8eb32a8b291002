import type { TreeNode } from '../tree/tree.ts';
import { type ByteString, displayBytes } from '../util/byte-string.ts';
import { octalMode } from './file-mode.ts';
import { jsonPath } from './image-path.ts';

/** A path of an image under `--json`. Sizes in bytes, mode in octal, mtime as RFC 3339 with nanoseconds. */
export function nodeJson(path: ByteString, node: TreeNode): Record<string, unknown> {
  return {
    ...jsonPath(path),
    type: node.type,
    mode: octalMode(node.mode),
    uid: node.uid,
    gid: node.gid,
    size: node.size,
    nlink: node.nlink,
    mtime: rfc3339(node.mtime, node.mtimeNs),
    ...(node.type === 'symlink' ? { target: displayBytes(node.link) } : {}),
    ...(node.type === 'char' || node.type === 'block' ? { device: [node.devMajor, node.devMinor] } : {}),
  };
}

/** Seconds and nanoseconds since the epoch, e.g. `2026-03-01T12:00:00.000000001Z`; `@seconds` outside the years 0 to 9999. */
export function rfc3339(seconds: number, nanoseconds: number): string {
  const date = new Date(seconds * 1000);
  const year = date.getUTCFullYear();
  if (Number.isNaN(year) || year < 0 || year > 9999) return `@${seconds}`;
  const whole = date.toISOString().slice(0, 19);
  const fraction = nanoseconds === 0 ? '' : `.${String(nanoseconds).padStart(9, '0')}`;
  return `${whole}${fraction}Z`;
}
