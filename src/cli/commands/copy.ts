import { isDeepStrictEqual } from 'node:util';
import type { Command } from 'commander';
import type { RegistryAccess } from '../../daemon/registry-access.ts';
import type { Origins } from '../../daemon/origins.ts';
import { parsePlatform } from '../../oci/platform.ts';
import type { Platform } from '../../oci/platform.ts';
import { formatReference } from '../../oci/reference.ts';
import { copyImage } from '../../registry/copy.ts';
import type { CopyReport } from '../../registry/copy.ts';
import { type AccessOptions, addAccessOptions, credentialsOf, needsPassword, tlsOf } from '../access-options.ts';
import { example } from '../command.ts';
import type { CliContext } from '../context.ts';
import { type CopyEnds, openSource, openTarget, parseEnds } from '../copy-ends.ts';
import { UsageError } from '../errors.ts';
import { humanBytes } from '../human.ts';
import { parseFile, parseJobs } from '../options.ts';
import { usage } from '../usage.ts';
import { withOrigins } from '../with-origins.ts';

interface CopyCommandOptions extends AccessOptions {
  readonly referrers?: true;
  readonly platform?: string;
  readonly jobs: number;
  readonly replace?: true;
  readonly srcUser?: string;
  readonly srcCaFile?: string;
  readonly srcInsecure?: true;
  readonly destUser?: string;
  readonly destCaFile?: string;
  readonly destInsecure?: true;
}

export function define(command: Command, context: CliContext): void {
  command
    .description(
      'Copy an image, with all its platforms, between registries, OCI layouts and archives. Nothing is repacked: its digest stays.',
    )
    .argument('<src>', 'image reference, oci:DIR[:TAG], or oci-archive:FILE[:TAG]')
    .argument('<dst>', 'the same; without a tag it takes that of SRC')
    .option('--referrers', 'also what refers to it: signatures, attestations, seekable indexes')
    .option('--platform <platform>', 'only the image for os/architecture[/variant], under its own digest')
    .option('--jobs <count>', 'blobs under way at once', parseJobs, 4)
    .option('--replace', 'overwrite FILE of oci-archive:FILE');
  addAccessOptions(command)
    .option('--src-user <name[:password]>', '--user for SRC alone')
    .option('--src-ca-file <file>', '--ca-file for SRC alone', parseFile)
    .option('--src-insecure', '--insecure for SRC alone')
    .option('--dest-user <name[:password]>', '--user for DST alone')
    .option('--dest-ca-file <file>', '--ca-file for DST alone', parseFile)
    .option('--dest-insecure', '--insecure for DST alone')
    .action(async (source: string, target: string, options: CopyCommandOptions) => {
      const ends = parseEnds(source, target, { replace: options.replace === true });
      const wish = { ...options, platform: options.platform === undefined ? undefined : platformOf(options.platform) };
      mustBeForOne(ends, options);
      const [src, dest] = await accessOfBoth(context, options);
      await withOrigins(context, src, (from) =>
        // One client for both ends can mount blobs of one repository in another.
        dest === src
          ? copy(context, ends, { from, to: from }, wish)
          : withOrigins(context, dest, (to) => copy(context, ends, { from, to }, wish)),
      );
    });
  example(command, 'peel copy docker.io/library/debian:12 localhost:5000/debian --referrers');
}

interface CopyWish {
  readonly referrers?: true;
  readonly platform: Platform | undefined;
  readonly jobs: number;
  readonly replace?: true;
}

async function copy(
  context: CliContext,
  ends: CopyEnds,
  origins: { readonly from: Origins; readonly to: Origins },
  { referrers, platform, jobs, replace }: CopyWish,
): Promise<void> {
  const { signal, progress, output } = context;
  const { from, tag } = await openSource(origins.from, ends.source, { signal });
  const target = await openTarget(origins.to, ends.target, tagFor(ends, tag), { replace: replace === true });
  let report;
  try {
    const options = { referrers, platform, jobs, signal, onProgress: progress.report };
    report = await copyImage(from, target.to, options);
    await target.finish();
  } finally {
    await target.giveUp();
  }
  progress.close();
  for (const digest of report.skipped)
    context.warn(`left out ${digest}, which refers to it: nobody can say what it is`);
  for (const digest of report.foreign) context.warn(`left out layer ${digest}: it is fetched from where it lies`);
  const source = formatReference(ends.source);
  if (context.options.json) await output.value({ source, destination: target.name, ...report });
  else await output.line(summary(target.name, report));
}

function tagFor({ source, target }: CopyEnds, tag: string | undefined): string | undefined {
  const chosen = target.tag ?? tag;
  if (chosen !== undefined) return chosen;
  if (target.kind === 'layout') throw new UsageError(`${formatReference(target)}: SRC has no tag that it could take`);
  return target.kind === 'registry' && source.digest === undefined ? 'latest' : undefined;
}

function summary(name: string, { digest, blobs, bytes }: CopyReport): string {
  const { copied, mounted, existing } = blobs;
  const parts = [`${copied} blobs copied (${humanBytes(bytes)})`, `${mounted} mounted`, `${existing} already there`];
  return `${name}: ${digest}; ${parts.join(', ')}`;
}

/** A password is for one registry: the other must not get it by accident. Errors: UsageError. */
function mustBeForOne({ source, target }: CopyEnds, { user, srcUser, destUser }: CopyCommandOptions): void {
  if (user === undefined || srcUser !== undefined || destUser !== undefined) return;
  if (source.kind !== 'registry' || target.kind !== 'registry' || source.host === target.host) return;
  throw new UsageError(`--user: ${source.host} and ${target.host} are two registries, say --src-user or --dest-user`);
}

/** The same object for both when nothing is said of one alone. Errors: UsageError. */
async function accessOfBoth(
  context: CliContext,
  options: CopyCommandOptions,
): Promise<readonly [src: RegistryAccess, dest: RegistryAccess]> {
  const { user, caFile, insecure, passwordStdin = false } = options;
  const { srcUser = user, srcCaFile = caFile, srcInsecure = insecure } = options;
  const { destUser = user, destCaFile = caFile, destInsecure = insecure } = options;
  if (passwordStdin && new Set([srcUser, destUser].filter(needsPassword)).size !== 1)
    throw new UsageError('--password-stdin needs one user without a password');
  const credentials = await credentialsOf(context, srcUser, passwordStdin);
  const src = { ...tlsOf({ caFile: srcCaFile, insecure: srcInsecure }), credentials };
  const dest = {
    ...tlsOf({ caFile: destCaFile, insecure: destInsecure }),
    credentials: destUser === srcUser ? credentials : await credentialsOf(context, destUser, passwordStdin),
  };
  return [src, isDeepStrictEqual(src, dest) ? src : dest];
}

function platformOf(text: string): Platform {
  return usage(() => parsePlatform(text));
}
