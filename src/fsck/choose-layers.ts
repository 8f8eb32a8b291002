import { resolveImage } from '../image/resolve.ts';
import type { ResolveDeps } from '../image/resolve.ts';
import { ImageError } from '../image/errors.ts';
import type { OpenOrigin } from '../image/origin.ts';
import type { Digest } from '../oci/digest.ts';
import { parseReference } from '../oci/reference.ts';

export interface ChooseLayersDeps extends ResolveDeps {
  readonly openOrigin: OpenOrigin;
}

const beginning = /^(?:sha256:|sha512:)?[0-9a-f]+$/;

/**
 * Layers by digest, by the beginning of one, or by an image that has them, as the node knows it; no registry is asked. Errors:
 * ERR_CACHE_UNKNOWN when a digest begins several; ImageError, OciError.
 */
export async function chooseLayers(
  deps: ChooseLayersDeps,
  names: readonly string[],
  all: readonly Digest[],
  { signal }: { readonly signal: AbortSignal },
): Promise<Digest[]> {
  const chosen = new Set<Digest>();
  for (const name of names) {
    const found = beginning.test(name)
      ? all.filter((digest) => digest.startsWith(name) || digest.slice(digest.indexOf(':') + 1).startsWith(name))
      : [];
    if (found.length > 1)
      throw new ImageError('ERR_CACHE_UNKNOWN', `${name} is the beginning of ${found.length} digests: give more of it`);
    for (const layer of found.length === 1 ? found : await layersOf(deps, name, signal)) chosen.add(layer);
  }
  return [...chosen];
}

async function layersOf(deps: ChooseLayersDeps, name: string, signal: AbortSignal): Promise<Digest[]> {
  const reference = parseReference(name);
  const origin = await deps.openOrigin(reference);
  const image = await resolveImage(deps, origin, reference, { platform: undefined, pull: 'never', signal });
  return image.manifest.layers.map(({ digest }) => digest);
}
