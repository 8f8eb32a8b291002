import type { Command } from 'commander';
import { example } from '../command.ts';
import type { CliContext } from '../context.ts';
import { copyOut } from '../copy-out.ts';
import { UsageError } from '../errors.ts';
import { humanBytes } from '../human.ts';
import { locate } from '../image-path.ts';
import { addImageOptions, checkReference, type ImageOptions, withImage } from '../with-image.ts';

export function define(command: Command, context: CliContext): void {
  addImageOptions(command)
    .argument('<image:path>', 'what to copy; the path is absolute, e.g. debian:12:/etc or oci:DIR:/etc')
    .argument('<dest>', 'a new name, or a directory to copy into')
    .description('Mode, times, symlinks and hard links are kept; owners, devices and extended attributes as root only.')
    .action(async (source: string, destination: string, options: ImageOptions) => {
      const { reference, path } = splitSource(source);
      await withImage(context, reference, options, async (image) => {
        const tree = await image.tree({ signal: context.signal });
        const start = locate(tree, path, { follow: false });
        const copied = await copyOut({ image, start, destination, context });
        if (context.options.json) await context.output.value({ ...copied, destination });
        else if (process.stderr.isTTY) context.warn(`copied ${copied.entries} entries, ${humanBytes(copied.bytes)}`);
      });
    });
  example(command, 'peel cp debian:12:/etc/apt ./apt');
}

/** `IMAGE:PATH`: no reference has `:/` in it, except `oci:/DIR` and `oci-archive:/FILE` at their start. Errors: UsageError. */
export function splitSource(source: string): { reference: string; path: string } {
  const [onDisk = ''] = /^oci(?:-archive)?:/.exec(source) ?? [];
  const colon = source.indexOf(':/', onDisk.length);
  if (colon <= 0) throw new UsageError(`${source}: expected IMAGE:PATH with an absolute path, e.g. debian:12:/etc`);
  return { reference: checkReference(source.slice(0, colon)), path: source.slice(colon + 1) };
}
