import type { LayerPaths } from '../layer/layer-paths.ts';
import type { Digest } from '../oci/digest.ts';
import type { StartRow } from '../state/starts.ts';
import { startReport } from './start-report.ts';
import type { StartReport } from './start-report.ts';
import { streamPathsOf } from './start-paths.ts';
import type { StreamPaths } from './start-paths.ts';
import { parseStartTrace } from './start-trace.ts';

/**
 * With the paths of files whose layers are still on the node. Undefined when another peel wrote the start down. Errors: those of the file system.
 */
export async function explainStart(
  row: StartRow,
  pathsOf: (layer: Digest) => Pick<LayerPaths, 'index'>,
): Promise<StartReport | undefined> {
  const trace = parseStartTrace(row.trace);
  if (trace === undefined) return undefined;
  const paths = new Map<Digest, StreamPaths>();
  for (const position of new Set(trace.stalls.map(({ layer }) => layer))) {
    const layer = trace.layers[position]?.digest;
    const found = layer === undefined ? undefined : await streamPathsOf(pathsOf(layer));
    if (layer !== undefined && found !== undefined) paths.set(layer, found);
  }
  return startReport(row, trace, (layer, offset) => paths.get(layer)?.at(offset));
}
