// Media types and annotations of peel indexes: docs/peel-index.md.

/** Of the manifest, and of its config, for registries that know no artifact types. */
export const peelIndexType = 'application/vnd.peel.index.v1+json';
export const peelTableType = 'application/vnd.peel.index.table.v1';
export const peelWindowsType = 'application/vnd.peel.index.windows.v1';

export const peelAnnotations = {
  buildTool: 'io.peel.index.build-tool',
  /** On both blobs: digest of the layer they are for. */
  layerDigest: 'io.peel.index.layer-digest',
  /** On the table: stream bytes per span that were asked for. */
  spanSize: 'io.peel.index.span-size',
} as const;
