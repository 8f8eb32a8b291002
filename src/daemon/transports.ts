import type { NodePaths } from '../config/paths.ts';
import { FuseNativeTransport } from '../image/transports/fuse-native-transport.ts';
import { KernelTransport } from '../image/transports/kernel-transport.ts';
import { NativeTransport } from '../image/transports/native-transport.ts';
import type { Transport } from '../image/transports/transport.ts';

/** Best first. */
export function transportsOf(uid: number, { root, runDir }: NodePaths): readonly Transport[] {
  return [
    new KernelTransport({ uid, root, runDir }),
    new NativeTransport({ uid }),
    new FuseNativeTransport({ uid, allowOther: uid === 0 }),
  ];
}
