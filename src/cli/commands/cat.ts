import type { Command } from 'commander';
import { example } from '../command.ts';
import type { CliContext } from '../context.ts';
import { CommandError } from '../errors.ts';
import { jsonPath, locate } from '../image-path.ts';
import { addImageOptions, imageArgument, type ImageOptions, withImage } from '../with-image.ts';

export function define(command: Command, context: CliContext): void {
  addImageOptions(command)
    .argument('<image>', imageArgument)
    .argument('<path...>', 'files of the image')
    .action(async (reference: string, paths: string[], options: ImageOptions) => {
      await withImage(context, reference, options, async (image) => {
        const tree = await image.tree({ signal: context.signal });
        // All are found before the first byte is written: a wrong name does not leave half an answer.
        const files = paths.map((path) => ({ ...locate(tree, path, { follow: true }), typed: path }));
        for (const { node, typed } of files) {
          if (node.type === 'dir') throw new CommandError(`${typed}: is a directory`, { code: 'EISDIR' });
          if (node.type !== 'file') throw new CommandError(`${typed}: not a regular file`, { code: 'EINVAL' });
        }
        const contents: unknown[] = [];
        for (const { path, node } of files) {
          const chunks: Uint8Array[] = [];
          for await (const chunk of image.stream(node, { signal: context.signal })) {
            if (context.options.json) chunks.push(Buffer.from(chunk));
            else await context.output.bytes(chunk);
          }
          const content = Buffer.concat(chunks).toString('base64');
          contents.push({ ...jsonPath(path), size: node.size, contentBase64: content });
        }
        if (context.options.json) await context.output.value(contents);
      });
    });
  example(command, 'peel cat debian:12 /etc/os-release');
}
