import { createHash } from 'node:crypto';
import { digestFromSha256 } from './digest.ts';
import type { Digest } from './digest.ts';

/** Of every layer with the ones below it, lowest first (OCI image spec, config.md#layer-chainid). */
export function chainIds(diffIds: readonly Digest[]): Digest[] {
  const ids: Digest[] = [];
  for (const diffId of diffIds) {
    const below = ids.at(-1);
    ids.push(
      below === undefined ? diffId : digestFromSha256(createHash('sha256').update(`${below} ${diffId}`).digest()),
    );
  }
  return ids;
}
