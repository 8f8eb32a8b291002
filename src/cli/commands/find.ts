import { type Command, Option } from 'commander';
import type { NodeType } from '../../tree/tree.ts';
import { displayBytes } from '../../util/byte-string.ts';
import { example } from '../command.ts';
import type { CliContext } from '../context.ts';
import { globMatcher } from '../glob.ts';
import { locate } from '../image-path.ts';
import { nodeJson } from '../node-json.ts';
import { walkTree } from '../walk.ts';
import { addImageOptions, imageArgument, type ImageOptions, withImage } from '../with-image.ts';

const types: Record<string, NodeType> = { f: 'file', d: 'dir', l: 'symlink', c: 'char', b: 'block', p: 'fifo' };

interface FindOptions extends ImageOptions {
  readonly type?: string;
  readonly in: string;
}

export function define(command: Command, context: CliContext): void {
  addImageOptions(command)
    .argument('<image>', imageArgument)
    .argument('<glob>', '* ? [a-z] stop at /, ** does not; without a / it is matched against names only')
    .option('--in <dir>', 'look below this directory of the image', '/')
    .addOption(
      new Option('-t, --type <letter>', 'only files, directories, symlinks, devices or fifos').choices(
        Object.keys(types),
      ),
    )
    .action(async (reference: string, glob: string, options: FindOptions) => {
      const matches = globMatcher(glob);
      const type = types[options.type ?? ''];
      await withImage(context, reference, options, async (image) => {
        const start = locate(await image.tree({ signal: context.signal }), options.in, { follow: true });
        const found: unknown[] = [];
        for (const { path, node } of walkTree(start.node, start.path)) {
          if ((type !== undefined && node.type !== type) || !matches(path)) continue;
          if (context.options.json) found.push(nodeJson(path, node));
          else await context.output.line(displayBytes(path));
        }
        if (context.options.json) await context.output.value(found);
      });
    });
  example(command, "peel find debian:12 '/usr/**/*.so*'");
}
