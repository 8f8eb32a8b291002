// A person's mount of an image whose layers are not all here.
import { errorMessage } from '../layer/errors.ts';
import { treeExtents } from '../native/tree-extents.ts';
import type { Logger } from '../observe/log.ts';
import type { Digest } from '../oci/digest.ts';
import type { AttachedLayer, LazyLayers } from './lazy-layers.ts';
import type { LoadedImage } from './loaded-image.ts';
import type { StartRecorder } from './start-recorder.ts';

export interface LazyService {
  readonly lazy: LazyLayers;
  /** Undefined: starts are not recorded. */
  readonly recorder: StartRecorder | undefined;
  /** Whether profiles are looked for. */
  readonly profiles: () => boolean;
}

export interface ServeLazilyOptions {
  readonly image: LoadedImage;
  /** Where it is mounted. */
  readonly dir: string;
  /** Whether anything comes before it is read: what is likely to be next, and what a profile names. */
  readonly readAhead: boolean;
  readonly fill: boolean;
  readonly log: Logger;
}

/** To be called when the image is mounted. Returns what ends it, before the image is closed; never rejects. */
export function serveLazily(
  { lazy, recorder, profiles }: LazyService,
  { image, dir, readAhead, fill, log }: ServeLazilyOptions,
): () => Promise<void> {
  const started = recorder?.begin({
    reference: image.reference,
    image: image.digest,
    dir,
    layers: [...new Set(image.openLayers)].map((layer) => ({ layer })),
  });
  // One tree shows all layers: it is walked once.
  let extents: Promise<readonly Float64Array[]> | undefined;
  const extentsOnce = () => (extents ??= image.treeFile().then(treeExtents));
  const attached = new Map<Digest, AttachedLayer>();
  for (const [device, layer] of image.openLayers.entries()) {
    const { digest } = layer.descriptor;
    const files = async () => (await extentsOnce())[device];
    if (!attached.has(digest)) attached.set(digest, lazy.attach(layer, { files, readAhead, fill }));
  }
  const ending = new AbortController();
  const preferring = readAhead && profiles() ? prefer(image, attached, log, ending.signal) : Promise.resolve();
  return async () => {
    ending.abort(new DOMException('the mount ends', 'AbortError'));
    await preferring;
    await started?.end();
    await Promise.all([...attached.values()].map((each) => each.detach()));
  };
}

/** Never rejects: a mount is as good without a profile. */
async function prefer(
  image: LoadedImage,
  attached: ReadonlyMap<Digest, AttachedLayer>,
  log: Logger,
  signal: AbortSignal,
): Promise<void> {
  try {
    const profile = await image.findProfile({ onWarning: (warning) => log.warn({}, warning), signal });
    for (const [layer, spans] of profile?.orders ?? []) attached.get(layer)?.prefer(spans);
    if (profile !== undefined) log.debug({ source: profile.source }, 'a profile says what comes first');
  } catch (error) {
    if (!signal.aborted) log.warn({ error: errorMessage(error) }, 'profiles could not be looked for');
  }
}
