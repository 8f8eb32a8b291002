/** How much a layer may unpack to. */
export interface PassLimits {
  /** Bytes of its stream. */
  readonly maxLayerSize: number;
  /** Stream bytes per byte of the blob, for layers of more than 64 MiB. */
  readonly maxRatio: number;
  /** Members of its tar; default 2 million. */
  readonly maxEntries?: number | undefined;
}
