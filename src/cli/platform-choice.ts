import type { Command } from 'commander';
import type { ChooseImages } from '../image/choose-images.ts';
import { isDigest } from '../oci/digest.ts';
import { parsePlatform } from '../oci/platform.ts';
import { type AccessOptions, addAccessOptions } from './access-options.ts';
import type { CliContext } from './context.ts';
import { UsageError } from './errors.ts';
import { usage } from './usage.ts';
import { checkReference } from './with-image.ts';

export interface PlatformOptions extends AccessOptions {
  readonly platform?: string;
  readonly allPlatforms?: true;
}

export function addPlatformOption(command: Command): Command {
  return addAccessOptions(command).option(
    '--platform <platform>',
    'os/architecture[/variant] to choose from an image index',
  );
}

export function addPlatformOptions(command: Command): Command {
  return addPlatformOption(command).option('--all-platforms', 'every image of an image index');
}

/** Which images of a reference are meant. Errors: UsageError. */
export function chosenPlatforms(context: CliContext, { platform, allPlatforms }: PlatformOptions): ChooseImages {
  if (platform !== undefined && allPlatforms) throw new UsageError('give --platform or --all-platforms, not both');
  return {
    platform: platform === undefined ? undefined : usage(() => parsePlatform(platform)),
    allPlatforms,
    signal: context.signal,
  };
}

/** What tables show of a digest is no reference, though it looks like one; `list` is the command that shows whole ones. */
export function checkTarget(target: string, list: string): string {
  if (isDigest(target)) return target;
  if (/^sha(256|512):/.test(target)) throw new UsageError(`${target} is not a whole digest; ${list} shows them`);
  return checkReference(target);
}
