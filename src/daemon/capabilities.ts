// What the daemon may do as root, and nothing else: its unit and SECURITY.md say the same.
import { passedFds } from '../config/service-environment.ts';
import { errorMessage } from '../layer/errors.ts';
import { boundingSet, execute, limitBoundingSet } from '../native/sys.ts';

/** By number, from linux/capability.h. */
const needed = {
  CAP_CHOWN: 0,
  CAP_DAC_OVERRIDE: 1,
  CAP_DAC_READ_SEARCH: 2,
  CAP_FOWNER: 3,
  CAP_FSETID: 4,
  CAP_SYS_ADMIN: 21,
  CAP_MKNOD: 27,
  CAP_SETFCAP: 31,
} as const;

/** Bit N is capability N. */
export const neededCapabilities = Object.values(needed).reduce((set, number) => set | (1n << BigInt(number)), 0n);

/**
 * Starts the program again with these capabilities at most, in the same process, where it has more: threads that are there cannot be told to give theirs up.
 * To be called before anything is open. Returns why it has more all the same, where it cannot give them up.
 */
export function keepNeededCapabilities(): string | undefined {
  const isRoot = process.geteuid?.() === 0;
  if (!isRoot || (boundingSet() & ~neededCapabilities) === 0n) return undefined;
  try {
    limitBoundingSet(neededCapabilities);
    const words = [process.execPath, ...process.execArgv, ...process.argv.slice(1)];
    execute(process.execPath, words, { fds: passedFds() });
  } catch (error) {
    return `capabilities that are not needed stay: ${errorMessage(error)}`;
  }
}
