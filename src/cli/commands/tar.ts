import { createWriteStream } from 'node:fs';
import { unlink } from 'node:fs/promises';
import type { Command } from 'commander';
import { archive } from '../archive.ts';
import { example } from '../command.ts';
import type { CliContext } from '../context.ts';
import { CommandError, UsageError } from '../errors.ts';
import { locate } from '../image-path.ts';
import { Output } from '../output.ts';
import { addImageOptions, imageArgument, type ImageOptions, withImage } from '../with-image.ts';

interface TarOptions extends ImageOptions {
  readonly output?: string;
}

export function define(command: Command, context: CliContext): void {
  addImageOptions(command)
    .argument('<image>', imageArgument)
    .argument('[path]', 'directory or file of the image', '/')
    .option('-o, --output <file>', 'write to a new file instead of stdout')
    .action(async (reference: string, path: string, options: TarOptions) => {
      if (options.output === undefined && process.stdout.isTTY) {
        throw new UsageError('refusing to write an archive to a terminal: use -o FILE or a pipe');
      }
      if (options.output === undefined && context.options.json) throw new UsageError('--json needs -o FILE');
      await withImage(context, reference, options, async (image) => {
        const start = locate(await image.tree({ signal: context.signal }), path, { follow: false });
        const { output, finish } = sink(context, options.output);
        let bytes = 0;
        let complete = false;
        try {
          for await (const chunk of archive(image, start, context.signal)) {
            await output.bytes(chunk);
            bytes += chunk.byteLength;
            context.progress.report({ what: 'writing the archive', done: bytes, total: undefined });
          }
          complete = true;
        } finally {
          await finish(complete);
        }
        if (context.options.json) await context.output.value({ file: options.output, bytes });
      });
    });
  example(command, 'peel tar debian:12 /etc | tar -tv');
}

function sink(
  context: CliContext,
  file: string | undefined,
): { output: Output; finish: (complete: boolean) => Promise<void> } {
  if (file === undefined) return { output: context.output, finish: async () => undefined };
  const stream = createWriteStream(file, { flags: 'wx' });
  let failure: NodeJS.ErrnoException | undefined;
  stream.on('error', (error) => {
    failure = error;
  });
  return {
    output: new Output(stream),
    finish: async (complete) => {
      await new Promise<void>((resolve) => stream.close(() => resolve()));
      if (failure?.code === 'EEXIST')
        throw new CommandError(`${file} exists already`, { code: 'EEXIST', cause: failure });
      // Half an archive must not be taken for a whole one.
      if (!complete || failure) await unlink(file).catch(() => undefined);
      if (failure)
        throw new CommandError(`${file}: ${failure.message}`, { code: failure.code ?? 'EIO', cause: failure });
    },
  };
}
