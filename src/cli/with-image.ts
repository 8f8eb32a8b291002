import { type Command, Option } from 'commander';
import type { Node } from '../daemon/node.ts';
import type { Image, IndexMode, OpenImageOptions, PullPolicy } from '../image/image.ts';
import { isDigest } from '../oci/digest.ts';
import { parsePlatform } from '../oci/platform.ts';
import type { Platform } from '../oci/platform.ts';
import { parseReference } from '../oci/reference.ts';
import { type AccessOptions, addAccessOptions } from './access-options.ts';
import type { CliContext } from './context.ts';
import { UsageError } from './errors.ts';
import { usage } from './usage.ts';
import { withNode } from './with-node.ts';

export interface ResolveOptions extends AccessOptions {
  readonly platform?: string;
  readonly pull: PullPolicy;
}

export interface ImageOptions extends ResolveOptions {
  readonly index: string;
}

export const imageArgument =
  'image reference, e.g. debian:12, localhost:5000/app@sha256:…, oci:DIR[:TAG], or oci-archive:FILE[:TAG]';

/** The options of every command that opens an image. */
export function addImageOptions(command: Command): Command {
  return addResolveOptions(command).option('--index <mode>', 'auto, require, never, or the digest of an index', 'auto');
}

/** Those of them that say which image is meant. */
export function addResolveOptions(command: Command): Command {
  return addAccessOptions(command)
    .option('--platform <platform>', 'os/architecture[/variant] to choose from an image index')
    .addOption(
      new Option('--pull <policy>', 'when to ask the registry')
        .choices(['always', 'missing', 'never'])
        .default('always'),
    );
}

/** Errors: UsageError for a reference, platform or index that is none. */
export function openOptions(context: CliContext, options: ImageOptions): OpenImageOptions {
  return {
    platform: platformOf(options),
    index: indexMode(options.index),
    pull: options.pull,
    signal: context.signal,
    onProgress: context.progress.report,
  };
}

/** Errors: UsageError. */
export function platformOf({ platform }: Pick<ResolveOptions, 'platform'>): Platform | undefined {
  return platform === undefined ? undefined : usage(() => parsePlatform(platform));
}

/** Errors: UsageError naming the text when it is not a reference. */
export function checkReference(text: string): string {
  usage(() => parseReference(text));
  return text;
}

/** Opens the image, says its warnings, and closes it whatever happens. */
export function withImage<T>(
  context: CliContext,
  reference: string,
  options: ImageOptions,
  use: (image: Image) => Promise<T>,
): Promise<T> {
  return withImages(context, [reference], options, ([image]) => use(image as Image));
}

/** The same for several images of one node, opened in order. */
export async function withImages<T>(
  context: CliContext,
  references: readonly string[],
  options: ImageOptions,
  use: (images: readonly Image[]) => Promise<T>,
): Promise<T> {
  references.forEach(checkReference);
  const open = openOptions(context, options);
  const useAll = async (node: Node) => {
    const images: Image[] = [];
    try {
      for (const reference of references) images.push(await node.openImage(reference, open));
      for (const { warnings } of images) warnings.forEach(context.warn);
      return await use(images);
    } finally {
      for (const image of images) await image.close();
    }
  };
  return withNode(context, useAll, options);
}

function indexMode(text: string): IndexMode {
  if (text === 'auto' || text === 'require' || text === 'never' || isDigest(text)) return text;
  throw new UsageError(`--index ${text}: expected auto, require, never, or a digest like sha256:…`);
}
