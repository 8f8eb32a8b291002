import type { Node } from '../daemon/node.ts';
import { type AccessOptions, accessOf } from './access-options.ts';
import type { CliContext } from './context.ts';

/** Opens this node's state, loading the code for it only now, and closes it whatever happens. `options` say how registries are reached. */
export async function withNode<T>(
  context: CliContext,
  use: (node: Node) => Promise<T>,
  options: AccessOptions = {},
): Promise<T> {
  const access = await accessOf(context, options);
  const { openNode } = await import('../daemon/node.ts');
  const { root, logLevel } = context.options;
  const openUnpacker = async (opened: Node) => {
    const { openDefaultUnpacker } = await import('../daemon/unpacking.ts');
    return await openDefaultUnpacker(opened);
  };
  const node = await openNode({ root, logLevel, access, openUnpacker });
  try {
    return await use(node);
  } finally {
    await node.close();
  }
}
