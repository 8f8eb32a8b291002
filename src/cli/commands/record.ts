import { isatty } from 'node:tty';
import type { Command } from 'commander';
import type { StartRecord } from '../../image/record-start.ts';
import { example } from '../command.ts';
import type { CliContext } from '../context.ts';
import { ProgramExit } from '../errors.ts';
import { addImageOptions, checkReference, imageArgument, type ImageOptions, openOptions } from '../with-image.ts';
import { withNode } from '../with-node.ts';

export function define(command: Command, context: CliContext): void {
  addImageOptions(command)
    .description(
      'Runs CMD, or the command of the image, in a container by runc, on a mount of its own. What it reads of each layer joins the ' +
        'profile of the image, which the next mount of it fetches before anybody asks; `peel profile push` gives it to other nodes. Ends with ' +
        "CMD, and with its exit code: stop a service with Ctrl-C or SIGTERM once it is ready. Root's containers can write, and what they write is " +
        'gone afterwards; those of ordinary users cannot. Only layers with a published index are recorded.',
    )
    .argument('<image>', imageArgument)
    .argument('[cmd...]', 'behind --, in place of the command of the image')
    .action(async (reference: string, cmd: string[], options: ImageOptions) => {
      checkReference(reference);
      const wish = {
        ...openOptions(context, options),
        reference,
        command: cmd,
        terminal: [0, 1, 2].every((fd) => isatty(fd)),
        takeSignals: context.takeSignals,
        onWarning: context.warn,
        onReady: () => context.progress.close(),
      };
      const record = await withNode(context, (node) => node.recordStart(wish), options);
      say(context, record);
      if (record.exitCode !== 0) throw new ProgramExit(record.exitCode);
    });
  example(command, 'peel record localhost:5000/app:1 -- python3 -c "import numpy"');
}

/** On stderr: stdout is that of the command. */
function say({ options, warn }: CliContext, record: StartRecord): void {
  if (options.json) {
    process.stderr.write(`${JSON.stringify(record)}\n`);
    return;
  }
  const { reference, recorded, layers } = record;
  if (layers.length === 0) {
    warn(`nothing is recorded: no layer of ${reference} has a published index (peel index create --push makes them)`);
    return;
  }
  if (!recorded) {
    warn(`nothing is recorded: the command read nothing of ${reference} that an index describes`);
    return;
  }
  const touched = layers.filter(({ spans }) => spans.length > 0);
  const sum = (of: (layer: (typeof layers)[number]) => number) => layers.reduce((total, each) => total + of(each), 0);
  const runs = Math.max(...layers.map((each) => each.runs));
  warn(
    `recorded ${sum(({ spans }) => spans.length)} of ${sum(({ spanCount }) => spanCount)} spans, in ${touched.length} of ` +
      `${layers.length} layers; the profile of ${reference} has ${runs} ${runs === 1 ? 'run' : 'runs'} now`,
  );
}
