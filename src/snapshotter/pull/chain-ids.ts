import type { Digest } from '../../oci/digest.ts';
import { digestOf } from '../../registry/blob-content.ts';

/** Of each layer with all below it (OCI image spec, config.md#layer-chainid), lowest first. */
export function chainIds(diffIds: readonly Digest[]): Digest[] {
  const chain: Digest[] = [];
  for (const diffId of diffIds) {
    const below = chain.at(-1);
    chain.push(below === undefined ? diffId : digestOf(Buffer.from(`${below} ${diffId}`)));
  }
  return chain;
}
