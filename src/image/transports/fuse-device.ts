import { accessSync, constants } from 'node:fs';
import { errorCode } from '../../layer/errors.ts';

/** Why /dev/fuse cannot be used by this process, as half a sentence. */
export function fuseDeviceRefusal(): string | undefined {
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
    return undefined;
  } catch (error) {
    return errorCode(error) === 'ENOENT'
      ? 'there is no /dev/fuse (modprobe fuse; in a container it must be passed in)'
      : '/dev/fuse may not be opened by this user';
  }
}
