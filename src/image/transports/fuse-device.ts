import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { errorCode } from '../../layer/errors.ts';

/** Character device 10:229 (the kernel's devices.txt). */
const fuseDevice = 10 * 256 + 229;

/** Why /dev/fuse cannot be used by this process, as half a sentence. */
export function fuseDeviceRefusal(): string | undefined {
  try {
    // Opening also asks the device rules of a container, which access(2) knows nothing of.
    const fd = openSync('/dev/fuse', constants.O_RDWR);
    const { rdev } = fstatSync(fd);
    closeSync(fd);
    return rdev === fuseDevice ? undefined : '/dev/fuse is not the FUSE device (mknod /dev/fuse c 10 229)';
  } catch (error) {
    const code = errorCode(error);
    if (code === 'ENOENT') return 'there is no /dev/fuse (modprobe fuse; in a container it must be passed in)';
    if (code === 'ENODEV' || code === 'ENXIO') return 'the kernel has no FUSE behind /dev/fuse (modprobe fuse)';
    return `/dev/fuse may not be opened by this user (${code})`;
  }
}
