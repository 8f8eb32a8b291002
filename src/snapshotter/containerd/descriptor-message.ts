import type { Descriptor } from '../../oci/descriptor.ts';
import { isDigest } from '../../oci/digest.ts';
import type { Descriptor as DescriptorMessage } from '../gen/containerd/types/descriptor_pb.ts';

type MessageFields = Pick<DescriptorMessage, 'mediaType' | 'digest' | 'size' | 'annotations'>;

export function toDescriptorMessage({ mediaType, digest, size, annotations }: Descriptor): MessageFields {
  return { mediaType, digest, size: BigInt(size), annotations: { ...annotations } };
}

/** Undefined when it is none of ours: no digest, a kind of digest that peel does not know. */
export function fromDescriptorMessage(message: MessageFields | undefined): Descriptor | undefined {
  const size = Number(message?.size);
  if (message === undefined || !isDigest(message.digest) || !Number.isSafeInteger(size) || size < 0) return undefined;
  return { mediaType: message.mediaType, digest: message.digest, size };
}
