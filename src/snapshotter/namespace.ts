import type { Metadata } from '@grpc/grpc-js';

/** As containerd names its own (pkg/identifiers): nothing else gets into a request to it. */
const namespace = /^[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*$/;
const maxLength = 76;

/**
 * Of whoever calls; undefined where that is not said, or garbage. containerd 1.6 says it in the metadata of its own pulls only, and every
 * release in the keys of snapshots, which are `<namespace>/<number>/<key of the client>`.
 */
export function namespaceOf(metadata: Metadata, key: string): string | undefined {
  const [, inKey] = /^([^/]+)\/\d+\//.exec(key) ?? [];
  const value = metadata.get('containerd-namespace')[0] ?? inKey;
  if (typeof value !== 'string' || value.length > maxLength || !namespace.test(value)) return undefined;
  return value;
}
