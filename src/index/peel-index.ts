import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';

/** Where the table and the windows of one layer are. */
export interface PeelLayer {
  /** Digest of the layer blob. */
  readonly layer: Digest;
  /** Bytes of stream per span that were asked for, informative. */
  readonly spanSize: number | undefined;
  readonly table: Descriptor;
  /** Undefined for a layer that needs no windows. */
  readonly windows: Descriptor | undefined;
}

/** A peel index manifest: which layers of an image it describes. Layers may be missing. */
export interface PeelIndex {
  /** The image manifest it is for. */
  readonly subject: Descriptor;
  readonly buildTool: string | undefined;
  /** In the order of the image's layers, one per layer digest. */
  readonly layers: readonly PeelLayer[];
}
