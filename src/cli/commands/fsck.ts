import type { Command } from 'commander';
import { fsckVerdict } from '../../fsck/fsck.ts';
import type { FsckReport } from '../../fsck/fsck.ts';
import { findingText } from '../../fsck/finding.ts';
import type { Finding } from '../../fsck/finding.ts';
import { type AccessOptions, addAccessOptions } from '../access-options.ts';
import { example } from '../command.ts';
import type { CliContext } from '../context.ts';
import { exitCodes, failureOf, ProgramExit } from '../errors.ts';
import { parseSize } from '../options.ts';
import { withNode } from '../with-node.ts';

/** Those of e2fsck, as far as it has them. */
export const fsckExitCodes = { clean: 0, repaired: 1, left: 4, failed: 8 } as const;

interface FsckCommandOptions extends AccessOptions {
  readonly repair?: true;
  readonly bandwidth?: number;
}

export function define(command: Command, context: CliContext): void {
  command
    .description(
      [
        'Compare the cache and the database of this node with the digests, while they are in use or not.',
        'Exit code 0: nothing is wrong; 1: all that was wrong is repaired; 4: something is wrong, and left as it is; 8: it',
        'cannot be checked.',
      ].join('\n'),
    )
    .argument('[layer...]', 'layers by digest, or images whose layers are meant; default: everything')
    .option('--repair', 'take out what is wrong, and fetch again what somebody may be using')
    .option('--bandwidth <size>', 'read no more of the disk per second, e.g. 50MiB', parseSize);
  addAccessOptions(command);
  command.action(async (names: string[], options: FsckCommandOptions) => {
    const { output, signal } = context;
    const isJson = context.options.json;
    // Said at once: a check of a large cache takes long, and may be interrupted.
    let said = Promise.resolve();
    const onFinding = (finding: Finding) => {
      if (!isJson) said = said.then(() => output.line(lineOf(finding)));
    };
    const onProgress = context.progress.report;
    const { repair = false, bandwidth = 0 } = options;
    const report = await withNode(
      context,
      (node) => node.fsck({ names, repair, bandwidth, signal, onFinding, onProgress }),
      options,
    ).catch((error: unknown) => {
      // 1 would say that all is well now.
      const { exitCode, message } = failureOf(error, signal.aborted);
      if (exitCode !== exitCodes.failed) throw error;
      context.warn(`cannot check: ${message ?? 'unknown error'}`);
      throw new ProgramExit(fsckExitCodes.failed);
    });
    await said;
    const verdict = fsckVerdict(report);
    if (isJson) await output.value({ ...report, verdict });
    else await output.line(summary(report, verdict, { repair }));
    if (verdict !== 'clean') throw new ProgramExit(fsckExitCodes[verdict]);
  });
  example(command, 'peel fsck --repair');
}

function lineOf(finding: Finding): string {
  return finding.repaired ? `${findingText(finding)} [repaired]` : findingText(finding);
}

function summary(
  { layers, findings }: FsckReport,
  verdict: ReturnType<typeof fsckVerdict>,
  { repair }: { readonly repair: boolean },
): string {
  const checked = `${layers} ${layers === 1 ? 'layer' : 'layers'} checked`;
  if (verdict === 'clean') return `${checked}, nothing is wrong`;
  const left = findings.filter(({ repaired }) => !repaired).length;
  if (verdict === 'repaired') return `${checked}, ${findings.length} things were wrong and are repaired`;
  const hint = repair ? '' : ' (--repair mends what can be)';
  return `${checked}, ${findings.length} things are wrong, ${left} of them are left${hint}`;
}
