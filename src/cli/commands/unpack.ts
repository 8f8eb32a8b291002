import type { Command } from 'commander';
import type { Node } from '../../daemon/node.ts';
import type { UnpackedImage } from '../../image/unpack-image.ts';
import { example } from '../command.ts';
import type { CliContext } from '../context.ts';
import { humanBytes, shortDigest } from '../human.ts';
import { parseDirectory } from '../options.ts';
import { addResolveOptions, checkReference, imageArgument, platformOf, type ResolveOptions } from '../with-image.ts';
import { withNode } from '../with-node.ts';

interface UnpackOptions extends ResolveOptions {
  readonly bundle?: true;
  readonly rootless?: true;
}

export function define(command: Command, context: CliContext): void {
  addResolveOptions(command)
    .description(
      'Download and unpack all of an image, its layers side by side. DIR appears when everything is there and was verified. ' +
        'After Ctrl-C, run it again: it goes on from the ranges that were downloaded.',
    )
    .argument('<image>', imageArgument)
    .argument('<dir>', 'an empty directory, or one that is not there yet', parseDirectory)
    .option(
      '--bundle',
      'make DIR an OCI bundle: the image in DIR/rootfs and a config.json, for `runc run --bundle DIR`',
    )
    .option(
      '--rootless',
      'all files become your own, without devices and privileged attributes; always so when you are not root',
    )
    .action(async (reference: string, dir: string, options: UnpackOptions) => {
      checkReference(reference);
      const wish = {
        reference,
        dir,
        form: options.bundle ? 'bundle' : 'tree',
        ownership: options.rootless || process.geteuid?.() !== 0 ? 'mine' : 'entries',
        platform: platformOf(options),
        pull: options.pull,
        signal: context.signal,
        onProgress: context.progress.report,
      } as const;
      const work = async (node: Node): Promise<void> => {
        const unpacked = await node.unpackImage(wish);
        context.progress.close();
        unpacked.warnings.forEach(context.warn);
        await print(context, unpacked);
        // The directory can be used by now.
        const unpacker = await node.unpacker();
        await unpacker.idle();
        // No daemon may ever run here, and who interrupts an unpacking need not come back to it.
        await unpacker.collect();
      };
      await withNode(context, work, options);
    });
  example(command, 'peel unpack docker.io/library/debian:12 ./debian --bundle');
}

async function print({ options, output }: CliContext, unpacked: UnpackedImage): Promise<void> {
  if (options.json) {
    await output.value(unpacked);
    return;
  }
  const { reference, digest, dir, config, layers } = unpacked;
  await output.table(
    [{ title: 'LAYER' }, { title: 'SIZE', align: 'right' }],
    layers.map((layer) => [shortDigest(layer.digest), humanBytes(layer.size)]),
  );
  await output.line(`${reference}: ${digest}, unpacked into ${dir}${config === undefined ? '' : ' as a bundle'}`);
}
