import { stat } from 'node:fs/promises';
import { type Command, Option } from 'commander';
import { DirRegistry } from '../../registry/dir-registry.ts';
import type { GarbageReport } from '../../registry/registry.ts';
import { example } from '../command.ts';
import type { CliContext } from '../context.ts';
import { CommandError } from '../errors.ts';
import { humanBytes } from '../human.ts';
import { parseDuration } from '../options.ts';
import { registryRoot } from '../registry-root.ts';

interface GcOptions {
  readonly olderThan: number;
  readonly untagged?: true;
  readonly dryRun?: true;
}

export function define(command: Command, context: CliContext): void {
  command
    .description(
      'Remove what nothing needs any more from the directory of a registry (--root as for serve), also while it is served.',
    )
    .addOption(
      new Option(
        '--older-than <duration>',
        'how long ago it must have been pushed or asked for last, e.g. 30m, 12h, 7d',
      )
        .argParser(parseDuration)
        .default(3_600_000, '1h'),
    )
    .option('--untagged', 'also images that no tag leads to (by default every manifest stays)')
    .option('--dry-run', 'only say what would be removed')
    .action(async ({ olderThan, untagged, dryRun }: GcOptions) => {
      const root = registryRoot(context);
      const found = await stat(root).catch(() => undefined);
      if (found?.isDirectory() !== true)
        throw new CommandError(`there is no registry in ${root}: name its directory with --root`, { code: 'ENOENT' });
      const { signal } = context;
      const report = await new DirRegistry(root).collectGarbage({ olderThanMs: olderThan, untagged, dryRun, signal });
      if (context.options.json) await context.output.value({ root, dryRun: dryRun === true, ...report });
      else await print(context, report, dryRun === true);
    });
  example(command, 'peel registry gc --root ./registry --untagged --older-than 7d');
}

async function print({ output }: CliContext, report: GarbageReport, dryRun: boolean): Promise<void> {
  const { uploads, temporary, manifests, blobs, referrers, content } = report;
  const kinds = { uploads, 'temporary files': temporary, manifests, blobs, 'entries of referrers': referrers, content };
  const rows = Object.entries(kinds).map(([kind, { count, bytes }]) => [kind, String(count), humanBytes(bytes)]);
  const right = { align: 'right' as const };
  await output.table([{ title: 'REMOVED' }, { title: 'COUNT', ...right }, { title: 'SIZE', ...right }], rows);
  const freed = uploads.bytes + temporary.bytes + content.bytes;
  await output.line(dryRun ? `${humanBytes(freed)} would be freed` : `${humanBytes(freed)} freed`);
}
