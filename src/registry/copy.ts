import type { Digest } from '../oci/digest.ts';
import type { Platform } from '../oci/platform.ts';
import type { ProgressSink } from '../observe/progress.ts';
import { forEach } from '../util/for-each.ts';
import { copyBlob } from './copy/blob-copy.ts';
import type { BlobOutcome } from './copy/blob-copy.ts';
import { planCopy } from './copy/copy-plan.ts';
import type { CopySource, PlannedManifest } from './copy/copy-plan.ts';
import type { CallOptions, Registry } from './interface.ts';

export interface CopyTarget {
  readonly registry: Registry;
  readonly repository: string;
  /** Without one the image is there by its digest only. */
  readonly tag?: string | undefined;
}

export interface CopyOptions extends CallOptions {
  /** Of an index only the image that runs on this platform, under its own digest. Default: all of it, as it is. */
  readonly platform?: Platform | undefined;
  /** Also what refers to a manifest that is copied (signatures, attestations, indexes), and what refers to that. */
  readonly referrers?: boolean | undefined;
  /** Blobs under way at once; default 4. */
  readonly jobs?: number | undefined;
  /** Bytes of each blob that is sent. A blob that is sent again starts again. */
  readonly onProgress?: ProgressSink | undefined;
}

export interface CopyReport {
  /** Of what was copied: the same at both ends. */
  readonly digest: Digest;
  readonly mediaType: string;
  readonly manifests: number;
  /** How many blobs were sent, were mounted from the source's repository, and were there already. */
  readonly blobs: Readonly<Record<BlobOutcome, number>>;
  /** Bytes of the blobs that were sent. */
  readonly bytes: number;
  /** Layers that lie elsewhere and were not copied. */
  readonly foreign: readonly Digest[];
  /** Referrers that were left out: listed but not there, or of a format that is not known. */
  readonly skipped: readonly Digest[];
}

/**
 * Copies an image from any registry to any other, byte by byte: every digest stays. Blobs come first, then manifests, those of an index
 * before it, and the tag last, so that a copy that fails leaves no tag behind. Errors: those of reading and pushing; MANIFEST_INVALID and
 * TOO_LARGE for what is no image or too much of one; MANIFEST_UNKNOWN when there is nothing for the platform.
 */
export async function copyImage(from: CopySource, to: CopyTarget, options: CopyOptions = {}): Promise<CopyReport> {
  const { jobs = 4, signal } = options;
  const { root, manifests, blobs, foreign, skipped } = await planCopy(from, { ...options, jobs });
  const count = { copied: 0, mounted: 0, existing: 0 };
  let bytes = 0;
  await forEach(
    blobs,
    jobs,
    async (blob, own) => {
      const outcome = await copyBlob({ from, to }, blob, { signal: own, onProgress: options.onProgress });
      count[outcome] += 1;
      if (outcome === 'copied') bytes += blob.size;
    },
    { signal },
  );
  const push = async (manifest: PlannedManifest, tag: string | undefined) => {
    const { digest, mediaType } = manifest.descriptor;
    await to.registry.pushManifest(to.repository, tag, manifest.bytes, mediaType, { signal, digest });
  };
  // A root that comes last is pushed with its tag at once; else the tag has to wait for the referrers.
  const untagged = to.tag !== undefined && manifests.at(-1) === root ? manifests.slice(0, -1) : manifests;
  for (const manifest of untagged) await push(manifest, undefined);
  if (to.tag !== undefined) await push(root, to.tag);
  const { digest, mediaType } = root.descriptor;
  return { digest, mediaType, manifests: manifests.length, blobs: count, bytes, foreign, skipped };
}
