// What earlier starts of an image read is asked for while it is pulled: before its first container is made.
import { countedLayers } from '../image/counted-layers.ts';
import type { Discovery } from '../image/index-finder.ts';
import { ProfileFinder } from '../image/profile-finder.ts';
import { errorMessage } from '../layer/errors.ts';
import type { Layer } from '../layer/layer.ts';
import type { SessionDeps, SessionImage } from './session-deps.ts';

export interface ProfileWish extends SessionImage {
  /** All of the image that are open. */
  readonly layers: readonly Layer[];
  /** Undefined: the registry was not asked for an index, and is not for a profile alone. */
  readonly discovery: Discovery | undefined;
  readonly signal: AbortSignal;
}

/** Never rejects: a pull is as good without a profile. */
export async function preferProfile(
  { state, content, log, prefer }: Pick<SessionDeps, 'state' | 'content' | 'log' | 'prefer'>,
  { origin, image, layers, discovery, signal }: ProfileWish,
): Promise<void> {
  try {
    const profile = await new ProfileFinder({ profiles: state.profiles, content }).find({
      origin,
      image: image.descriptor.digest,
      layers: countedLayers(layers),
      listed: discovery?.listed(),
      onWarning: (warning) => log.warn({ image: image.reference }, warning),
      signal,
    });
    for (const layer of new Set(layers)) prefer?.(layer, profile?.orders.get(layer.descriptor.digest) ?? []);
    if (profile !== undefined)
      log.debug({ image: image.reference, source: profile.source }, 'a profile says what comes first');
  } catch (error) {
    if (!signal.aborted)
      log.warn({ image: image.reference, error: errorMessage(error) }, 'profiles could not be looked for');
  }
}
