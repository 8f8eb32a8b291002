import type { Digest } from '../oci/digest.ts';
import { isDigest } from '../oci/digest.ts';
import type { IndexRow, IndexTable } from '../state/indexes.ts';
import { chooseImages } from './choose-images.ts';
import type { ChooseImages, ChooseImagesDeps } from './choose-images.ts';
import { ImageError } from './errors.ts';
import type { Origin } from './origin.ts';

/** A row that names an index. */
export type KnownIndex = IndexRow & { readonly digest: Digest };

export interface FindIndexesDeps extends ChooseImagesDeps {
  readonly state: ChooseImagesDeps['state'] & { readonly indexes: IndexTable };
}

export interface FoundIndexes {
  readonly rows: readonly KnownIndex[];
  /** Of the image that was named; nobody is asked about a digest. */
  readonly origin: Origin | undefined;
}

/**
 * The indexes that this node knows by the name of an image, the digest of its manifest, or their own: at least one, in the order in which
 * a mount prefers them.
 * Errors: ERR_IMAGE_INDEX when there is none; ImageError.
 */
export async function findIndexes(deps: FindIndexesDeps, target: string, options: ChooseImages): Promise<FoundIndexes> {
  const listed = deps.state.indexes.list().filter((row): row is KnownIndex => row.digest !== undefined);
  const known = [...listed.filter(({ kind }) => kind === 'peel'), ...listed.filter(({ kind }) => kind === 'soci')];
  if (isDigest(target)) {
    const named = known.filter(({ digest }) => digest === target);
    const rows = named.length > 0 ? named.slice(0, 1) : known.filter(({ image }) => image === target);
    if (rows.length === 0)
      throw new ImageError(
        'ERR_IMAGE_INDEX',
        `no index ${target} is known on this node: peel index ls lists those that are`,
      );
    return { rows, origin: undefined };
  }
  const { origin, images } = await chooseImages(deps, target, options);
  const rows = known.filter(({ image }) => images.some(({ descriptor }) => descriptor.digest === image));
  if (rows.length === 0)
    throw new ImageError(
      'ERR_IMAGE_INDEX',
      `no index of ${target} is known on this node: peel index ls ${target} asks its registry`,
    );
  return { rows, origin };
}
