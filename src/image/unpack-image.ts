// Reference → the image's tree as an ordinary directory, or as a bundle that a runtime runs.
import { lstat, mkdir, readdir, realpath, rm, rmdir, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { errorCode, errorMessage } from '../layer/errors.ts';
import type { ProgressSink } from '../observe/progress.ts';
import type { Digest } from '../oci/digest.ts';
import type { Platform } from '../oci/platform.ts';
import { parseReference } from '../oci/reference.ts';
import type { LayerSourceTable } from '../state/layer-sources.ts';
import type { LocalBlobs } from '../unpack/blob-feed.ts';
import { UnpackError } from '../unpack/errors.ts';
import type { LayerToUnpack, Unpacker } from '../unpack/unpacker.ts';
import type { PullPolicy } from './image.ts';
import { imageSource } from './known-source.ts';
import { mountsAt, readMountInfo } from './mountinfo.ts';
import { openOrigin } from './open-image.ts';
import type { OpenOrigin, Origin } from './origin.ts';
import { resolveImage } from './resolve.ts';
import type { ResolvedImage, ResolveDeps } from './resolve.ts';
import { ownIds, runnableConfig } from './runnable-config.ts';
import { writeBundle } from './runtime-bundle.ts';

export interface UnpackImageDeps extends ResolveDeps {
  readonly openOrigin: OpenOrigin;
  readonly sources: LayerSourceTable;
  readonly unpacker: Pick<Unpacker, 'unpackImage'>;
  /** Asked for layers before the registry. */
  readonly local?: LocalBlobs | undefined;
}

export interface UnpackImageOptions {
  readonly reference: string;
  /** An empty directory, or nothing. */
  readonly dir: string;
  /** `tree`: `dir` becomes the image's root. `bundle`: it gets that as `rootfs`, and a config.json. */
  readonly form: 'tree' | 'bundle';
  /** `mine`: for who is not root; everything belongs to him, and what only root can make is left out. */
  readonly ownership: 'entries' | 'mine';
  readonly platform?: Platform | undefined;
  /** Default `always`. */
  readonly pull?: PullPolicy | undefined;
  readonly signal: AbortSignal;
  readonly onProgress?: ProgressSink | undefined;
}

export interface UnpackedImage {
  readonly reference: string;
  readonly digest: Digest;
  /** Absolute. */
  readonly dir: string;
  /** Where the image's tree is. */
  readonly rootfs: string;
  /** Of a bundle: its config.json. */
  readonly config: string | undefined;
  /** Lowest first. */
  readonly layers: readonly { readonly digest: Digest /** Bytes of the blob. */; readonly size: number }[];
  /** Things said once: what was left out, for example. */
  readonly warnings: readonly string[];
}

/**
 * Downloads what is missing of an image and unpacks all of it. After an error `dir` is as it was.
 * Errors: ImageError; OciError when it is no reference; UnpackError, ERR_UNPACK_DESTINATION for a `dir` that is not empty; the signal's
 * reason.
 */
export async function unpackImage(deps: UnpackImageDeps, options: UnpackImageOptions): Promise<UnpackedImage> {
  const { reference, signal, platform } = options;
  const target = await checkTarget(options);
  const origin = await openOrigin(deps, reference);
  const image = await resolveImage(deps, origin, parseReference(reference), {
    platform,
    pull: options.pull ?? 'always',
    signal,
  });
  const warnings = [...image.warnings];
  const unpack = (dir: string): Promise<void> =>
    deps.unpacker.unpackImage(
      {
        image: image.reference,
        layers: layersOf(deps, image, origin),
        dir,
        ownership: options.ownership,
        onProgress: options.onProgress,
        onWarning: (message) => void warnings.push(message),
      },
      { signal },
    );
  const { dir } = target;
  const done = {
    reference: image.reference,
    digest: image.descriptor.digest,
    dir,
    layers: image.manifest.layers.map(({ digest, size }) => ({ digest, size })),
    warnings,
  };
  if (options.form === 'tree') {
    await unpack(dir);
    return { ...done, rootfs: dir, config: undefined };
  }
  // Found out before anything is downloaded.
  const container = runnableConfig(image);
  const rootless = options.ownership === 'mine' ? ownIds() : undefined;
  const rootfs = join(dir, 'rootfs');
  const config = await inNewDirectory(target, async () => {
    await unpack(rootfs);
    return await orRemove(rootfs, () =>
      writeBundle({ dir, config: container, rootless, onWarning: (message) => void warnings.push(message) }),
    );
  });
  return { ...done, rootfs, config };
}

function layersOf(deps: UnpackImageDeps, image: ResolvedImage, origin: Origin): LayerToUnpack[] {
  const { local } = deps;
  return image.manifest.layers.flatMap((descriptor, i) => {
    const diffId = image.diffIds[i];
    return diffId === undefined ? [] : { descriptor, diffId, source: imageSource(deps, origin, descriptor), local };
  });
}

interface Target {
  /** Absolute, the way to it without links. */
  readonly dir: string;
  readonly exists: boolean;
}

/** Errors: ERR_UNPACK_DESTINATION saying what is wrong with it. */
async function checkTarget({ dir: wished, form }: UnpackImageOptions): Promise<Target> {
  const absolute = resolve(wished);
  const named = absolute === '/' ? absolute : join(await wayTo(absolute), basename(absolute));
  if (!(await isThere(named))) return { dir: named, exists: false };
  let dir: string;
  let names: string[];
  try {
    dir = await realpath(named);
    names = await readdir(dir);
  } catch (cause) {
    const code = errorCode(cause);
    const what = { ENOTDIR: 'is not a directory', ENOENT: 'is a link that leads nowhere' }[code ?? ''];
    throw badTarget(named, what ?? `cannot be read: ${errorMessage(cause)}`, cause);
  }
  if (names.length > 0) throw badTarget(dir, 'is not empty: unpack into an empty directory, or one that is not there');
  // Nothing can be renamed onto a mountpoint.
  if (form === 'tree' && mountsAt(await readMountInfo(), dir).length > 0)
    throw badTarget(dir, 'is a mountpoint: unpack into a directory in it');
  // Another directory takes its place: who works in it would be left in one that is gone.
  if (form === 'tree' && (await isSameDirectory(dir, '.')))
    throw badTarget(dir, 'is the directory you are in: unpack into a directory in it, or from outside');
  return { dir, exists: true };
}

async function isThere(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (cause) {
    if (errorCode(cause) === 'ENOENT') return false;
    throw badTarget(path, `cannot be made: ${errorMessage(cause)}`, cause);
  }
}

async function isSameDirectory(one: string, other: string): Promise<boolean> {
  const [a, b] = await Promise.all([stat(one, { bigint: true }), stat(other, { bigint: true })]);
  return a.ino === b.ino && a.dev === b.dev;
}

async function wayTo(path: string): Promise<string> {
  const parent = dirname(path);
  try {
    return await realpath(parent);
  } catch (cause) {
    throw badTarget(path, `cannot be made: ${parent}: ${errorMessage(cause)}`, cause);
  }
}

function badTarget(dir: string, what: string, cause?: unknown): UnpackError {
  return new UnpackError('ERR_UNPACK_DESTINATION', `${dir} ${what}`, { cause });
}

/** Makes the directory of `target` where it is missing, and removes it again when `work` fails. */
async function inNewDirectory<T>({ dir, exists }: Target, work: () => Promise<T>): Promise<T> {
  if (exists) return await work();
  try {
    // A stranger must not come to the setuid programs of an image.
    await mkdir(dir, { mode: 0o700 });
  } catch (cause) {
    throw badTarget(dir, `cannot be made: ${errorMessage(cause)}`, cause);
  }
  try {
    return await work();
  } catch (error) {
    // What somebody else has put there meanwhile is his.
    await rmdir(dir).catch(() => undefined);
    throw error;
  }
}

async function orRemove<T>(tree: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    await rm(tree, { recursive: true, force: true });
    throw error;
  }
}
