import { type Command, Option } from 'commander';
import type { Node } from '../../daemon/node.ts';
import { example } from '../command.ts';
import type { CliContext } from '../context.ts';
import {
  addPlatformOption,
  addPlatformOptions,
  checkTarget,
  chosenPlatforms,
  type PlatformOptions,
} from '../platform-choice.ts';
import { printProfile, printProfiles } from '../profile-text.ts';
import { checkReference, imageArgument } from '../with-image.ts';
import { withNode } from '../with-node.ts';

interface PushOptions extends PlatformOptions {
  readonly format: 'peel' | 'soci' | 'both';
}

const target = '<image>';
const targetArgument = 'an image reference, or the digest of an image manifest';
const list = 'peel profile ls';

export function define(command: Command, context: CliContext): void {
  defineLs(command.command('ls').description('List the images whose starts this node knows.'), context);
  defineShow(command.command('show').description('Show which spans of each layer a start touches, in order.'), context);
  definePush(
    command
      .command('push')
      .description("Push what this node's starts of an image touched, as a referrer of it, for the next node."),
    context,
  );
  defineRm(
    command.command('rm').description('Forget the profile of an image on this node; the copy in a registry stays.'),
    context,
  );
}

function defineLs(command: Command, context: CliContext): void {
  command.action(async () => {
    const reports = await withNode(context, async ({ profiles }) => profiles.list());
    if (context.options.json) await context.output.value(reports);
    else await printProfiles(context, reports);
  });
  example(command, list);
}

function defineShow(command: Command, context: CliContext): void {
  addPlatformOption(command)
    .argument(target, targetArgument)
    .action(async (name: string, options: PlatformOptions) => {
      checkTarget(name, list);
      const show = (node: Node) => node.profiles.show(name, chosenPlatforms(context, options));
      const reports = await withNode(context, show, options);
      if (context.options.json) await context.output.value(reports);
      else for (const report of reports) await printProfile(context, report);
    });
  example(command, 'peel profile show localhost:5000/app:1');
}

function definePush(command: Command, context: CliContext): void {
  addPlatformOptions(command)
    .argument('<image>', imageArgument)
    .addOption(
      new Option(
        '--format <format>',
        "peel: a profile; soci: the image's SOCI index once more, with what is to be fetched first, for every SOCI snapshotter",
      )
        .choices(['peel', 'soci', 'both'])
        .default('peel'),
    )
    .action(async (reference: string, options: PushOptions) => {
      checkReference(reference);
      const wish = { ...chosenPlatforms(context, options), format: options.format };
      const push = (node: Node) => node.profiles.push(reference, wish);
      const pushed = await withNode(context, push, options);
      if (context.options.json) await context.output.value(pushed);
      else
        await context.output.lines(
          pushed.map(
            ({ profile, image, format }) =>
              `pushed ${format === 'peel' ? 'profile' : 'SOCI index'} ${profile} for ${image}`,
          ),
        );
    });
  example(command, 'peel profile push localhost:5000/app:1');
}

function defineRm(command: Command, context: CliContext): void {
  addPlatformOptions(command)
    .argument(target, targetArgument)
    .action(async (name: string, options: PlatformOptions) => {
      checkTarget(name, list);
      const remove = (node: Node) => node.profiles.remove(name, chosenPlatforms(context, options));
      const removed = await withNode(context, remove, options);
      if (context.options.json) await context.output.value({ removed });
      else await context.output.lines(removed.map((image) => `removed the profile of ${image}`));
    });
  example(command, 'peel profile rm localhost:5000/app:1');
}
