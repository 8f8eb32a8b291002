import type { LayerBuild } from '../index/layer-build.ts';
import { errorCode, errorMessage } from '../layer/errors.ts';
import type { Logger } from '../observe/log.ts';
import type { Digest } from '../oci/digest.ts';
import { parseReference } from '../oci/reference.ts';
import type { ZtocRow } from '../state/ztocs.ts';
import { KeyedLock } from '../util/keyed-lock.ts';
import { assembleIndex, keepZtoc } from './assemble-index.ts';
import type { AssembleIndexDeps } from './assemble-index.ts';
import { distinctLayers, skippedUnread } from './index-layers.ts';
import type { OpenOrigin, Origin } from './origin.ts';
import { pushIndex } from './push-index.ts';
import { isUnknown } from './registry-errors.ts';
import type { ResolvedImage } from './resolve.ts';

export interface IndexPublisherDeps extends AssembleIndexDeps {
  readonly openOrigin: OpenOrigin;
  readonly log: Logger;
  /** Whether indexes are pushed, asked when there is one. */
  readonly publish: () => boolean;
}

export interface BuiltLayerOfImage {
  readonly image: ResolvedImage;
  readonly layer: Digest;
  readonly build: LayerBuild;
  readonly signal?: AbortSignal | undefined;
}

const maxWaiting = 256;

/** What a registry says that takes no pushes, or none from us. */
const refusals: ReadonlySet<string | undefined> = new Set(['UNAUTHORIZED', 'DENIED', 'UNSUPPORTED']);

/** Turns what was learned while the layers of an image were unpacked into its index, on this node and for others. */
export class IndexPublisher {
  readonly #d: IndexPublisherDeps;
  /** One layer of an image after the other: the last one has to see what the others left. */
  readonly #images = new KeyedLock<Digest>();
  /** Repositories and indexes that this process pushed, or found there. */
  readonly #published = new Set<string>();
  /** By manifest: those that lack a layer that may be read for another image. */
  readonly #waiting = new Map<Digest, ResolvedImage>();
  /** Hosts whose refusal was said. */
  readonly #refused = new Set<string>();

  constructor(deps: IndexPublisherDeps) {
    this.#d = deps;
  }

  /**
   * Keeps the layer's zTOC. With the last one that the image needs, its index is kept too, found by the next mount of the image on this
   * node, and pushed where that is wanted. Never rejects: what goes wrong is logged, and the layer is as good without.
   */
  async layerBuilt({ image, layer, build, signal }: BuiltLayerOfImage): Promise<void> {
    const { reference, descriptor } = image;
    const { log } = this.#d;
    try {
      const take = (): Promise<void> => this.#take(image, layer, build, signal);
      await this.#images.run(descriptor.digest, take, { signal });
      for (const other of this.#waitingFor(layer)) {
        const assemble = (): Promise<void> => this.#assemble(other, signal);
        await this.#images.run(other.descriptor.digest, assemble, { signal });
      }
    } catch (error) {
      if (signal?.aborted === true) return;
      log.warn({ image: reference, layer, error: errorMessage(error) }, 'the index of an unpacked layer is not kept');
    }
  }

  async #take(image: ResolvedImage, layer: Digest, build: LayerBuild, signal: AbortSignal | undefined): Promise<void> {
    const wanted = distinctLayers(image.manifest).find(({ digest }) => digest === layer);
    if (wanted !== undefined && skippedUnread('soci', wanted) === undefined && !(await this.#has(layer)))
      await keepZtoc(this.#d, build);
    await this.#assemble(image, signal);
  }

  /** Does nothing while a layer has not been read. */
  async #assemble(image: ResolvedImage, signal: AbortSignal | undefined): Promise<void> {
    const rows = await this.#rows(image);
    if (rows === undefined) {
      this.#waitFor(image);
      return;
    }
    this.#waiting.delete(image.descriptor.digest);
    const before = this.#d.state.indexes.get(image.descriptor.digest, 'soci')?.digest;
    const index = await assembleIndex(this.#d, image, rows);
    if (index === undefined) return;
    if (index !== before)
      this.#d.log.info({ image: image.reference, index }, 'unpacking has made an index of the image');
    if (this.#d.publish()) await this.#push(image, index, signal);
  }

  /** A layer that several images have is unpacked once, for one of them. */
  #waitingFor(layer: Digest): ResolvedImage[] {
    return [...this.#waiting.values()].filter(({ manifest }) => manifest.layers.some(({ digest }) => digest === layer));
  }

  #waitFor(image: ResolvedImage): void {
    this.#waiting.delete(image.descriptor.digest);
    this.#waiting.set(image.descriptor.digest, image);
    const [oldest] = this.#waiting.keys();
    if (this.#waiting.size > maxWaiting && oldest !== undefined) this.#waiting.delete(oldest);
  }

  async #has(layer: Digest): Promise<boolean> {
    const row = this.#d.state.ztocs.get(layer);
    if (row?.ztoc === undefined) return false;
    return (await this.#d.content.local(row.ztoc)) !== undefined;
  }

  /** Undefined while a layer that may get a zTOC has not been read. */
  async #rows({ manifest }: ResolvedImage): Promise<ZtocRow[] | undefined> {
    const rows: ZtocRow[] = [];
    for (const layer of distinctLayers(manifest)) {
      if (skippedUnread('soci', layer) !== undefined) continue;
      const row = this.#d.state.ztocs.get(layer.digest);
      if (row === undefined || (row.ztoc !== undefined && !(await this.#has(layer.digest)))) return undefined;
      rows.push(row);
    }
    return rows;
  }

  async #push(image: ResolvedImage, index: Digest, signal: AbortSignal | undefined): Promise<void> {
    const { reference } = image;
    const { content, log } = this.#d;
    try {
      const origin = await this.#d.openOrigin(parseReference(reference));
      const key = `${origin.name}@${index}`;
      // What is on a disk belongs to somebody, who did not ask for it to be changed.
      if (!origin.remote || this.#published.has(key)) return;
      if (!(await isThere(origin, index, signal))) {
        await pushIndex(content, origin, index, signal);
        log.info({ image: reference, index }, 'the index of the image was pushed');
      }
      this.#published.add(key);
    } catch (error) {
      if (signal?.aborted !== true) this.#sayNotPushed(reference, index, error);
    }
  }

  #sayNotPushed(reference: string, index: Digest, error: unknown): void {
    const event = { image: reference, index, error: errorMessage(error) };
    const code = errorCode(error instanceof Error ? (error.cause ?? error) : error);
    const host = hostOf(reference);
    if (!refusals.has(code)) this.#d.log.warn(event, 'the index of the image could not be pushed');
    else if (this.#refused.has(host)) this.#d.log.debug(event, 'the registry takes no index');
    else {
      this.#refused.add(host);
      this.#d.log.warn(event, `${host} takes no index from this node (said once): it stays on this node`);
    }
  }
}

async function isThere({ registry, repository }: Origin, index: Digest, signal: AbortSignal | undefined) {
  try {
    await registry.resolveManifest(repository, index, { signal });
    return true;
  } catch (error) {
    if (isUnknown(error)) return false;
    throw error;
  }
}

function hostOf(reference: string): string {
  const parsed = parseReference(reference);
  return parsed.kind === 'registry' ? parsed.host : reference;
}
