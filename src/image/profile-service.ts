// Showing, publishing and forgetting what the starts of images touched: what the `profile` commands do.
import { createPeelProfile } from '../index/peel-profile-writer.ts';
import { isDigest } from '../oci/digest.ts';
import type { Digest } from '../oci/digest.ts';
import type { IndexTable } from '../state/indexes.ts';
import { profileOrder } from '../state/profile-merge.ts';
import { recordedHere } from '../state/profiles.ts';
import type { CountedLayer, ProfileRow, ProfileTable } from '../state/profiles.ts';
import { chooseImages } from './choose-images.ts';
import type { ChooseImages, ChooseImagesDeps } from './choose-images.ts';
import { ImageError } from './errors.ts';
import type { Origin } from './origin.ts';
import { pushArtifact } from './push-artifact.ts';
import type { Artifact } from './push-artifact.ts';
import type { ResolvedImage } from './resolve.ts';
import { sociProfile } from './soci-profile.ts';

export interface ProfileServiceDeps extends ChooseImagesDeps {
  readonly state: ChooseImagesDeps['state'] & { readonly profiles: ProfileTable; readonly indexes: IndexTable };
}

/** What is known of the starts of one image, newest first by the last start. */
export interface ProfileReport {
  /** Manifest digest. */
  readonly image: Digest;
  /** ms since the epoch. */
  readonly updatedAt: number;
  readonly layers: readonly ProfileLayerReport[];
}

export interface ProfileLayerReport extends CountedLayer {
  /** Starts that were merged. */
  readonly runs: number;
  readonly source: string;
  /** Those to fetch, in that order. */
  readonly spans: readonly number[];
}

export interface PushProfile extends ChooseImages {
  /** Default `peel`: a profile. `soci`: the image's SOCI index once more, with lists of the spans to fetch first. */
  readonly format?: 'peel' | 'soci' | 'both' | undefined;
}

export interface PushedProfile {
  /** Manifest digest. */
  readonly image: Digest;
  readonly format: 'peel' | 'soci';
  /** Of the profile or the SOCI index. */
  readonly profile: Digest;
}

export class ProfileService {
  readonly #d: ProfileServiceDeps;

  constructor(deps: ProfileServiceDeps) {
    this.#d = deps;
  }

  /** Of every image that this node knows a profile of. */
  list(): ProfileReport[] {
    return reportsOf(this.#d.state.profiles.list());
  }

  /** By the name of an image, or the digest of its manifest. Errors: ERR_IMAGE_PROFILE when none is known here; ImageError. */
  async show(target: string, options: ChooseImages = {}): Promise<ProfileReport[]> {
    const images = await this.#imagesOf(target, options);
    const reports = images.flatMap((image) => reportsOf(this.#d.state.profiles.get(image)));
    if (reports.length === 0) throw noProfile(target);
    return reports;
  }

  /** Publishes what this node's own starts touched beside the image. Errors: ERR_IMAGE_PROFILE when there is nothing; ImageError. */
  async push(reference: string, options: PushProfile = {}): Promise<PushedProfile[]> {
    const { origin, images } = await chooseImages(this.#d, reference, options);
    const pushed: PushedProfile[] = [];
    let known: ProfileRow | undefined;
    for (const image of images) {
      const rows = this.#d.state.profiles.get(image.descriptor.digest);
      known ??= rows[0];
      const own = inOrder(image, rows).filter(({ source }) => source === recordedHere);
      if (own.length === 0) continue;
      pushed.push(...(await this.#pushImage(origin, image, own, options)));
    }
    if (pushed.length > 0) return pushed;
    if (known === undefined) throw noProfile(reference);
    throw new ImageError(
      'ERR_IMAGE_PROFILE',
      `this node recorded no start of ${reference}; it knows a profile from elsewhere (${known.source})`,
    );
  }

  async #pushImage(
    origin: Origin,
    image: ResolvedImage,
    rows: readonly ProfileRow[],
    { format = 'peel', signal }: PushProfile,
  ): Promise<PushedProfile[]> {
    const { content, state } = this.#d;
    const recordedAt = Math.max(...rows.map(({ updatedAt }) => updatedAt));
    const layers = rows.map(layerReport);
    const pushed: PushedProfile[] = [];
    const push = async (artifact: Artifact, kind: PushedProfile['format']): Promise<Digest> => {
      const { digest } = artifact.manifest.descriptor;
      await pushArtifact(origin, artifact, { what: `profile ${digest}`, signal });
      pushed.push({ image: image.descriptor.digest, format: kind, profile: digest });
      return digest;
    };
    const renamed: ProfileLayerReport[] = [];
    if (format !== 'peel') {
      const deps = { content, indexes: state.indexes };
      const { artifact, from } = await sociProfile(deps, { origin, image, signal }, layers, recordedAt);
      const index = await push(artifact, 'soci');
      // Who finds that index reads the layers by it, whose spans are those of the one it was made of.
      for (const each of layers) if (each.index === from) renamed.push({ ...each, index, format: 'soci-v1' });
    }
    if (format !== 'soci')
      await push(createPeelProfile({ subject: image.descriptor, recordedAt, layers: [...layers, ...renamed] }), 'peel');
    return pushed;
  }

  /** Forgets profiles on this node; the registry's copies stay. Returns the images. Errors: ERR_IMAGE_PROFILE; ImageError. */
  async remove(target: string, options: ChooseImages = {}): Promise<Digest[]> {
    const images = await this.#imagesOf(target, options);
    const removed = images.filter((image) => this.#d.state.profiles.delete(image) > 0);
    if (removed.length === 0) throw noProfile(target);
    return removed;
  }

  async #imagesOf(target: string, options: ChooseImages): Promise<Digest[]> {
    if (isDigest(target)) return [target];
    return (await chooseImages(this.#d, target, options)).images.map(({ descriptor }) => descriptor.digest);
  }
}

function reportsOf(rows: readonly ProfileRow[]): ProfileReport[] {
  const byImage = new Map<Digest, ProfileRow[]>();
  for (const row of rows) byImage.set(row.image, [...(byImage.get(row.image) ?? []), row]);
  return [...byImage].map(([image, own]) => ({
    image,
    updatedAt: Math.max(...own.map(({ updatedAt }) => updatedAt)),
    layers: own.map(layerReport),
  }));
}

function layerReport(row: ProfileRow): ProfileLayerReport {
  const { layer, index, format, spanCount, runs, source } = row;
  return { layer, index, format, spanCount, runs, source, spans: profileOrder(row) };
}

/** As the image has its layers; those of one layer by different indexes by the digests of these. */
function inOrder({ manifest }: ResolvedImage, rows: readonly ProfileRow[]): ProfileRow[] {
  const place = new Map(manifest.layers.map(({ digest }, i) => [digest, i]));
  return rows
    .filter(({ layer }) => place.has(layer))
    .toSorted((a, b) => (place.get(a.layer) ?? 0) - (place.get(b.layer) ?? 0) || (a.index < b.index ? -1 : 1));
}

function noProfile(target: string): ImageError {
  return new ImageError(
    'ERR_IMAGE_PROFILE',
    `this node has no profile of ${target}: a start of the image records one, peel record makes one`,
  );
}
