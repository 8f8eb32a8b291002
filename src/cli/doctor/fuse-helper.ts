import { statSync } from 'node:fs';
import { fusermountPath } from '../../native/mounts.ts';
import type { Finding, Machine } from './checks.ts';

/** The set-uid program that mounts for ordinary users. */
export function checkHelper({ uid }: Machine): Finding {
  const what = 'fusermount3';
  const file = fusermountPath();
  if (file === undefined) {
    if (uid === 0) return { what, state: 'note', found: 'is not installed', todo: 'only ordinary users need it' };
    return { what, state: 'broken', found: 'is not installed', todo: 'Debian: apt-get install fuse3' };
  }
  const { mode, uid: owner } = statSync(file);
  if (owner === 0 && (mode & 0o4000) !== 0) return { what, state: 'ok', found: file };
  const found = `${file} is not set-uid root`;
  return { what, state: uid === 0 ? 'note' : 'broken', found, todo: `chown root ${file} && chmod u+s ${file}` };
}
