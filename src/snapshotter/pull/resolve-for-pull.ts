// Reference → everything of an image but its layers, as the registry has it now.
import { ContentFetcher } from '../../image/content.ts';
import { ImageError } from '../../image/errors.ts';
import type { OpenOrigin, Origin } from '../../image/origin.ts';
import { imageErrorFrom } from '../../image/registry-errors.ts';
import { resolveImage } from '../../image/resolve.ts';
import type { Descriptor } from '../../oci/descriptor.ts';
import type { Digest } from '../../oci/digest.ts';
import { parseManifestOrIndex } from '../../oci/manifest.ts';
import type { ImageIndex, Manifest } from '../../oci/manifest.ts';
import type { Platform } from '../../oci/platform.ts';
import { formatReference } from '../../oci/reference.ts';
import type { RegistryReference } from '../../oci/reference.ts';
import { ContentService } from '../containerd/content.ts';
import { isContainerdError } from '../containerd/errors.ts';
import { ImageService } from '../containerd/images.ts';
import type { ContainerdSession } from '../containerd/session.ts';
import { PullStore } from './pull-store.ts';

/** A document with its bytes. */
export interface Stored {
  readonly descriptor: Descriptor;
  readonly bytes: Uint8Array;
}

export interface ImageToPull {
  /** The reference in full. */
  readonly name: string;
  readonly origin: Origin;
  /** What the reference names: an index, or the manifest itself. */
  readonly top: Stored;
  /** Undefined when `top` is the manifest. */
  readonly index: ImageIndex | undefined;
  readonly manifest: Stored & { readonly document: Manifest };
  readonly config: Stored;
  /** One per layer. */
  readonly diffIds: readonly Digest[];
}

export interface ResolveForPullDeps {
  readonly session: ContainerdSession;
  readonly openOrigin: OpenOrigin;
}

/** Asks the registry what a tag is now, and for nothing that containerd has. Errors: ImageError, ContainerdError. */
export async function resolveForPull(
  { session, openOrigin }: ResolveForPullDeps,
  reference: RegistryReference,
  { platform, signal }: { readonly platform: Platform | undefined; readonly signal: AbortSignal | undefined },
): Promise<ImageToPull> {
  const name = formatReference(reference);
  const store = new PullStore(new ContentService(session), signal);
  const content = new ContentFetcher(store, store);
  try {
    const origin = await openOrigin(reference);
    const digest = reference.digest ?? (await askForTag(session, content, origin, reference, { name, signal }));
    const images = { get: () => undefined, put: () => {} };
    const options = { platform, pull: 'always', signal } as const;
    const resolved = await resolveImage({ images, content }, origin, { ...reference, digest }, options);
    const top = await stored(store, resolved.top);
    const document = parseManifestOrIndex(top.bytes, top.descriptor.mediaType);
    return {
      name,
      origin,
      top: { ...top, descriptor: { ...top.descriptor, mediaType: document.mediaType } },
      index: document.kind === 'index' ? document : undefined,
      manifest: { ...(await stored(store, resolved.descriptor)), document: resolved.manifest },
      config: await stored(store, resolved.manifest.config),
      diffIds: resolved.diffIds,
    };
  } catch (error) {
    signal?.throwIfAborted();
    const cause = error instanceof ImageError ? error.cause : error;
    throw isContainerdError(cause) ? cause : imageErrorFrom(error, name);
  }
}

/** One HEAD when containerd has an image of that name, else one GET. */
async function askForTag(
  session: ContainerdSession,
  content: ContentFetcher,
  { registry, repository }: Origin,
  { tag = 'latest' }: RegistryReference,
  { name, signal }: { readonly name: string; readonly signal: AbortSignal | undefined },
): Promise<Digest> {
  const known = await new ImageService(session).target(name, { signal });
  if (known !== undefined && (await content.local(known.digest)) !== undefined)
    return (await registry.resolveTag(repository, tag, { signal })).digest;
  return (await content.keep(await registry.getTag(repository, tag, { signal }))).descriptor.digest;
}

async function stored(store: PullStore, descriptor: Descriptor): Promise<Stored> {
  const bytes = await store.get(descriptor.digest);
  if (bytes === undefined) throw new ImageError('ERR_IMAGE_CONTENT', `${descriptor.digest} is gone`);
  const { mediaType, digest } = descriptor;
  return { descriptor: { mediaType, digest, size: bytes.length }, bytes };
}
