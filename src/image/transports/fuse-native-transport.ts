// The portable transport: libfuse 2 through the fuse-native package, bytes and names through JavaScript.
import { createRequire } from 'node:module';
import { errorMessage } from '../../layer/errors.ts';
import { ImageError } from '../errors.ts';
import { withBoundedXattrs } from './bounded-xattrs.ts';
import type { FuseConstructor } from './bounded-xattrs.ts';
import { carryTree } from './carried-tree.ts';
import { fuseDeviceRefusal } from './fuse-device.ts';
import { fuseOperations } from './fuse-operations.ts';
import { watchMount } from './mount-watch.ts';
import type { MountRequest, Served, Transport } from './transport.ts';

export interface FuseNativeOptions {
  readonly uid: number;
  /** Readers other than the one who mounts; needs root or user_allow_other. */
  readonly allowOther: boolean;
}

export class FuseNativeTransport implements Transport {
  readonly name = 'fuse-native';
  readonly #options: FuseNativeOptions;

  constructor(options: FuseNativeOptions) {
    this.#options = options;
  }

  async refusal(): Promise<string | undefined> {
    try {
      loadFuse();
      return fuseDeviceRefusal();
    } catch (error) {
      return `fuse-native cannot be loaded (${errorMessage(error).split('\n')[0]}); it needs libfuse2`;
    }
  }

  async mount({ image, dir, finalDir, signal }: MountRequest): Promise<Served> {
    const carried = carryTree(await image.tree({ signal }));
    const operations = fuseOperations(carried, (node, offset, length) => image.read(node, offset, length));
    const Fuse = loadFuse();
    // The package knows no such options; libfuse takes a list at any place of it.
    const options = {
      fsname: 'peel,ro,use_ino,attr_timeout=3600,entry_timeout=3600',
      subtype: 'peel',
      defaultPermissions: true,
      kernelCache: true,
      timeout: false,
      allowOther: this.#options.allowOther,
    };
    const fuse = new Fuse(dir, operations, options);
    await new Promise<void>((resolve, reject) => {
      fuse.mount((error) => {
        if (error === null) resolve();
        else
          reject(
            new ImageError('ERR_MOUNT_TRANSPORT', `libfuse 2 cannot mount on ${dir}: ${error.message}`, {
              cause: error,
            }),
          );
      });
    });
    const watch = watchMount([
      { dir, fsType: 'fuse.peel' },
      { dir: finalDir, fsType: 'overlay' },
    ]);
    const warnings =
      carried.leftOut === 0
        ? []
        : [
            `${carried.leftOut} entries are left out, because their names or link targets are not UTF-8 and libfuse 2 cannot carry them; the first is ${carried.firstLeftOut} (the native transport has them)`,
          ];
    return { warnings, closed: watch.gone, stop: async () => watch.stop() };
  }
}

/** CommonJS with a native part; loaded only when this transport is used. */
function loadFuse(): FuseConstructor {
  return withBoundedXattrs(createRequire(import.meta.url)('fuse-native') as FuseConstructor);
}
