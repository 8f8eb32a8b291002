import type { Node } from '../daemon/node.ts';
import type { CliContext } from './context.ts';

/** Opens this node's state, loading the code for it only now, and closes it whatever happens. */
export async function withNode<T>(context: CliContext, use: (node: Node) => Promise<T>): Promise<T> {
  const { openNode } = await import('../daemon/node.ts');
  const node = await openNode({ root: context.options.root, logLevel: context.options.logLevel });
  try {
    return await use(node);
  } finally {
    await node.close();
  }
}
