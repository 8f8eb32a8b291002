import type { Digest } from '../oci/digest.ts';
import { parseReference } from '../oci/reference.ts';
import type { OpenOrigin } from './origin.ts';
import { resolveImage } from './resolve.ts';
import type { ResolveDeps } from './resolve.ts';

/** Digest of the manifest that `image` stands for on this host, as the node knows it; no registry is asked. Errors: ImageError, OciError. */
export async function knownManifest(
  deps: ResolveDeps & { readonly openOrigin: OpenOrigin },
  image: string,
  options: { readonly signal: AbortSignal },
): Promise<Digest> {
  const reference = parseReference(image);
  const origin = await deps.openOrigin(reference);
  const found = await resolveImage(deps, origin, reference, { platform: undefined, pull: 'never', ...options });
  return found.descriptor.digest;
}
