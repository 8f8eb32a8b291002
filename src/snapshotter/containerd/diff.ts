import type { Descriptor } from '../../oci/descriptor.ts';
import { Diff } from '../gen/containerd/services/diff/v1/diff_pb.ts';
import type { Mount } from '../gen/containerd/types/mount_pb.ts';
import { toDescriptorMessage } from './descriptor-message.ts';
import type { CallOptions, ContainerdSession } from './session.ts';

/** Unpacking is bound by the disk: ten minutes, and one second more for each of these bytes. */
const fixedTimeoutMs = 600_000;
const slowestBytesPerMs = 1024;

/** Unpacks a layer of the content store. Returns the digest of its uncompressed bytes, as containerd wrote it. */
export async function applyLayer(
  session: ContainerdSession,
  layer: Descriptor,
  mounts: readonly Mount[],
  options: CallOptions = {},
): Promise<string> {
  const timeoutMs = fixedTimeoutMs + Math.ceil(layer.size / slowestBytesPerMs);
  const { applied } = await session.call(
    Diff.method.apply,
    `unpack the layer ${layer.digest}`,
    { diff: toDescriptorMessage(layer), mounts: [...mounts] },
    { timeoutMs, ...options },
  );
  return applied?.digest ?? '';
}
