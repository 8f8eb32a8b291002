import type { Metadata } from '@grpc/grpc-js';

/** As containerd names its own (pkg/identifiers): nothing else gets into a request to it. */
const namespace = /^[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*$/;
const maxLength = 76;

/** Of whoever calls; undefined where that is not said, or garbage. */
export function namespaceOf(metadata: Metadata): string | undefined {
  const value = metadata.get('containerd-namespace')[0];
  if (typeof value !== 'string' || value.length > maxLength || !namespace.test(value)) return undefined;
  return value;
}
