import { readFileSync } from 'node:fs';

/**
 * Whether this process runs in a user namespace of its own, where overlayfs takes its marks from `user.overlay.` attributes only
 * (kernel, filesystems/overlayfs.rst, "userxattr").
 */
export function inUserNamespace(uidMap = '/proc/self/uid_map'): boolean {
  try {
    // The first namespace maps all 2^32 - 1 numbers to themselves.
    return !/^\s*0\s+0\s+4294967295\s*$/.test(readFileSync(uidMap, 'utf8'));
  } catch {
    return false;
  }
}
