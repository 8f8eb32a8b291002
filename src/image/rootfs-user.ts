import { ImageError } from './errors.ts';
import { readRootfsFile } from './rootfs-file.ts';

/** Who a container's process is. */
export interface RootfsUser {
  readonly uid: number;
  readonly gid: number;
  readonly additionalGids: readonly number[];
  readonly home: string | undefined;
}

/** Runtimes refuse more. */
const maxId = 2 ** 31 - 1;

interface PasswdLine {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
}

interface GroupLine {
  readonly name: string;
  readonly gid: number;
  readonly members: readonly string[];
}

/**
 * What an image's `USER[:GROUP]` means, by the `etc/passwd` and `etc/group` in `rootfs`, as runtimes read it: what is a number is one, a
 * user that is named by itself also has the groups that list him, and none is root.
 * Errors: ERR_IMAGE_CONTENT for a name that is not there, or a number that is none of a user; those of the file system.
 */
export async function rootfsUser(rootfs: string, spec: string): Promise<RootfsUser> {
  const [userPart = '', groupPart = ''] = spec.split(':');
  const users = lines(await readRootfsFile(rootfs, 'etc/passwd'), passwdLine);
  const groups = lines(await readRootfsFile(rootfs, 'etc/group'), groupLine);
  const number = idOf(userPart === '' ? '0' : userPart, spec);
  const known = users.find(({ name, uid }) => (number === undefined ? name === userPart : uid === number));
  const uid = known?.uid ?? number;
  if (uid === undefined) throw unknown(spec, `${userPart} is not in its /etc/passwd`);
  const home = known?.home === '' ? undefined : known?.home;
  if (groupPart !== '') return { uid, gid: groupOf(groupPart, groups, spec), additionalGids: [], home };
  const additional = known === undefined ? [] : groups.filter(({ members }) => members.includes(known.name));
  return { uid, gid: known?.gid ?? 0, additionalGids: [...new Set(additional.map(({ gid }) => gid))], home };
}

function groupOf(text: string, groups: readonly GroupLine[], spec: string): number {
  const gid = idOf(text, spec) ?? groups.find(({ name }) => name === text)?.gid;
  if (gid === undefined) throw unknown(spec, `${text} is not in its /etc/group`);
  return gid;
}

/** Undefined when it is a name. */
function idOf(text: string, spec: string): number | undefined {
  if (!/^-?\d+$/.test(text)) return undefined;
  const id = Number(text);
  if (id < 0 || id > maxId) throw unknown(spec, `${text} is not a number from 0 to ${maxId}`);
  return id;
}

function lines<T>(text: string | undefined, parse: (fields: readonly string[]) => T | undefined): T[] {
  return (text ?? '').split('\n').flatMap((line) => parse(line.trim().split(':')) ?? []);
}

/** passwd(5). A line with another number of fields than it should have is passed over, and never taken for root's. */
function passwdLine([name = '', , uid = '', gid = '', , home = '']: readonly string[]): PasswdLine | undefined {
  return name === '' || !isId(uid) || !isId(gid) ? undefined : { name, uid: Number(uid), gid: Number(gid), home };
}

/** group(5). */
function groupLine([name = '', , gid = '', members = '']: readonly string[]): GroupLine | undefined {
  return name === '' || !isId(gid) ? undefined : { name, gid: Number(gid), members: members.split(',') };
}

function isId(text: string): boolean {
  return /^\d+$/.test(text) && Number(text) <= maxId;
}

function unknown(spec: string, why: string): ImageError {
  return new ImageError('ERR_IMAGE_CONTENT', `the image runs as ${JSON.stringify(spec)}: ${why}`);
}
