/** How much an index from outside may ask of us. Sizes in bytes. */
export interface IndexLimits {
  /** A zTOC, peel table or node index as a whole. */
  readonly blobBytes: number;
  /** An index manifest (JSON). */
  readonly manifestBytes: number;
  /** Members of one layer's tar. */
  readonly entries: number;
  readonly spans: number;
  /** A path or link target. */
  readonly nameBytes: number;
  /** PAX records of one tar member. */
  readonly paxRecords: number;
  readonly paxBytes: number;
  /** A layer stream. */
  readonly streamBytes: number;
  /** Descriptors in an index manifest. */
  readonly descriptors: number;
  /** The tree in a peel table, decompressed. */
  readonly treeBytes: number;
}

export const defaultIndexLimits: IndexLimits = {
  blobBytes: 256 << 20,
  manifestBytes: 4 << 20,
  entries: 2_000_000,
  spans: 1 << 20,
  nameBytes: 64 << 10,
  paxRecords: 4096,
  paxBytes: 4 << 20,
  streamBytes: 2 ** 44,
  descriptors: 4096,
  treeBytes: 512 << 20,
};
