// What the `index` commands tell. Sizes in bytes.
import type { Digest } from '../oci/digest.ts';
import type { IndexFormat, IndexKind } from '../state/indexes.ts';

/** What became of one layer in a SOCI index: a zTOC, or the reason why not. */
export interface SociOutcome {
  readonly ztoc: Digest | undefined;
  readonly ztocSize: number | undefined;
  readonly skipped: string | undefined;
}

/** What became of one layer in a peel index: a table and perhaps windows, or the reason why not. */
export interface PeelOutcome {
  readonly table: Digest | undefined;
  readonly tableSize: number | undefined;
  /** Undefined for a layer that needs none, too. */
  readonly windows: Digest | undefined;
  readonly windowsSize: number | undefined;
  readonly skipped: string | undefined;
}

/** Of a kind that was not asked for nothing is said. */
export interface LayerOutcome {
  readonly layer: Digest;
  /** Of the blob. */
  readonly size: number;
  readonly peel: PeelOutcome | undefined;
  readonly soci: SociOutcome | undefined;
}

/** Undefined where no layer got anything of this kind, or it was not asked for. */
export type MadeIndexes = Readonly<Record<IndexKind, Digest | undefined>>;

export interface IndexReport {
  readonly reference: string;
  readonly image: Digest;
  readonly platform: string | undefined;
  readonly indexes: MadeIndexes;
  readonly layers: readonly LayerOutcome[];
  readonly pushed: boolean;
}

/** What an index has for one layer; counts are undefined when its bytes are not at hand. */
export interface IndexLayerInfo {
  readonly layer: Digest;
  /** SOCI only. */
  readonly ztoc: Digest | undefined;
  /** peel only. */
  readonly table: Digest | undefined;
  /** Of the zTOC or the table. */
  readonly size: number;
  /** peel only, and only of a layer that needs them. */
  readonly windows: Digest | undefined;
  readonly windowsSize: number | undefined;
  readonly spanSize: number | undefined;
  readonly spans: number | undefined;
  readonly entries: number | undefined;
}

export interface IndexInfoReport {
  readonly index: Digest;
  readonly format: IndexFormat;
  readonly image: Digest | undefined;
  readonly buildTool: string | undefined;
  readonly source: string;
  readonly layers: readonly IndexLayerInfo[];
}
