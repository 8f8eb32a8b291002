import type { Platform } from '../oci/platform.ts';
import { formatReference, parseReference } from '../oci/reference.ts';
import type { ImageTable } from '../state/images.ts';
import type { ContentFetcher } from './content.ts';
import type { OpenOrigin, Origin } from './origin.ts';
import { imageErrorFrom } from './registry-errors.ts';
import { resolveAllPlatforms, resolveImage } from './resolve.ts';
import type { ResolvedImage } from './resolve.ts';

/** Which images of a reference are meant: by default the one for this machine. */
export interface ChooseImages {
  readonly platform?: Platform | undefined;
  readonly allPlatforms?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface ChooseImagesDeps {
  readonly openOrigin: OpenOrigin;
  readonly state: { readonly images: ImageTable };
  readonly content: ContentFetcher;
}

/** The images that are meant, as their registry has them now, and the registry. Errors: ImageError. */
export async function chooseImages(
  { openOrigin, state, content }: ChooseImagesDeps,
  reference: string,
  options: ChooseImages,
): Promise<{ readonly origin: Origin; readonly images: readonly ResolvedImage[] }> {
  const parsed = parseReference(reference);
  const origin = await openOrigin(parsed).catch((error: unknown) => {
    throw imageErrorFrom(error, formatReference(parsed));
  });
  const deps = { images: state.images, content };
  const common = { pull: 'always', signal: options.signal } as const;
  if (options.allPlatforms === true) return { origin, images: await resolveAllPlatforms(deps, origin, parsed, common) };
  return { origin, images: [await resolveImage(deps, origin, parsed, { ...common, platform: options.platform })] };
}
