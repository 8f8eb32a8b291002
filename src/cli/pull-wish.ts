// What is to be pulled, whoever pulls it.
import type { RegistryAccess } from '../daemon/registry-access.ts';
import type { Digest } from '../oci/digest.ts';
import type { Platform } from '../oci/platform.ts';
import type { RegistryReference } from '../oci/reference.ts';

export interface ImageWish {
  readonly reference: RegistryReference;
  /** As it was typed, and what that means. */
  readonly platform: { readonly text: string; readonly value: Platform } | undefined;
  /** Of containerd's socket. */
  readonly address: string;
  readonly namespace: string;
  readonly snapshotter: string;
  readonly index: Digest | undefined;
  readonly access: RegistryAccess;
}

/** Those that make layers readable by themselves. */
const ownSnapshotters = ['overlayfs', 'native', 'btrfs', 'devmapper', 'zfs', 'erofs', 'blockfile'];

/** Whether the snapshotter is a program besides containerd, as the daemon is. */
export function isRemoteSnapshotter(name: string): boolean {
  return !ownSnapshotters.includes(name);
}
