// Layers through a LayerApplier, in portions.
import type { TreeOp } from '../../src/native/tree-ops.ts';
import type { LayerEntries } from '../../src/tree/merge.ts';
import type { Tree } from '../../src/tree/tree.ts';
import { type AppliedLayers, LayerApplier, type LayerApplierOptions } from '../../src/unpack/apply/layer-applier.ts';
import { OpDirectory } from './op-directory.ts';

export interface ApplyOptions extends Pick<LayerApplierOptions, 'form' | 'maxNodes' | 'overlayMarks'> {
  /** How many entries at a time, over and over; default: all. */
  readonly portions?: readonly number[];
}

/** Layer n is in stream n. Errors: those of the applier, and of `submit`. */
export function applyLayers(
  layers: readonly LayerEntries[],
  { portions = [Infinity], ...options }: ApplyOptions,
  submit: (ops: readonly TreeOp[]) => void,
): AppliedLayers {
  const applier = new LayerApplier({ ...options, submit, layerName: 'layer 0' });
  for (const [stream, { entries }] of layers.entries()) {
    applier.beginLayer(stream, `layer ${stream}`);
    for (let i = 0, turn = 0; i < entries.length; turn++) {
      const size = portions[turn % portions.length] ?? Infinity;
      applier.take(entries.slice(i, i + size));
      i += size;
    }
  }
  return applier.finish();
}

export function appliedTree(layers: readonly LayerEntries[], options: ApplyOptions): AppliedLayers & { tree: Tree } {
  const directory = new OpDirectory();
  const applied = applyLayers(layers, options, (ops) => directory.submit(ops));
  return { ...applied, tree: directory.tree() };
}
