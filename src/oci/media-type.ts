// Media types of OCI image spec 1.1 and Docker image manifest v2 schema 2, and what they say about a blob.
export const mediaTypes = {
  imageManifest: 'application/vnd.oci.image.manifest.v1+json',
  imageIndex: 'application/vnd.oci.image.index.v1+json',
  imageConfig: 'application/vnd.oci.image.config.v1+json',
  emptyJson: 'application/vnd.oci.empty.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar',
  layerGzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
  layerZstd: 'application/vnd.oci.image.layer.v1.tar+zstd',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerManifestList: 'application/vnd.docker.distribution.manifest.list.v2+json',
  dockerConfig: 'application/vnd.docker.container.image.v1+json',
  dockerLayer: 'application/vnd.docker.image.rootfs.diff.tar',
  dockerLayerGzip: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
  octetStream: 'application/octet-stream',
} as const;

/** In the order of preference of an Accept header. A wildcard is not enough for some registries, so the names are sent. */
export const manifestMediaTypes: readonly string[] = [
  mediaTypes.imageManifest,
  mediaTypes.imageIndex,
  mediaTypes.dockerManifest,
  mediaTypes.dockerManifestList,
];

export type Compression = 'none' | 'gzip' | 'zstd';

export interface LayerType {
  readonly compression: Compression;
  /** Docker's foreign and OCI's non-distributable layers: fetched from the descriptor's `urls`, not pushed to registries. */
  readonly foreign: boolean;
}

const layerTypes: ReadonlyMap<string, LayerType> = new Map([
  [mediaTypes.layer, { compression: 'none', foreign: false }],
  [mediaTypes.layerGzip, { compression: 'gzip', foreign: false }],
  [mediaTypes.layerZstd, { compression: 'zstd', foreign: false }],
  ['application/vnd.oci.image.layer.nondistributable.v1.tar', { compression: 'none', foreign: true }],
  ['application/vnd.oci.image.layer.nondistributable.v1.tar+gzip', { compression: 'gzip', foreign: true }],
  ['application/vnd.oci.image.layer.nondistributable.v1.tar+zstd', { compression: 'zstd', foreign: true }],
  [mediaTypes.dockerLayer, { compression: 'none', foreign: false }],
  [mediaTypes.dockerLayerGzip, { compression: 'gzip', foreign: false }],
  ['application/vnd.docker.image.rootfs.diff.tar.zstd', { compression: 'zstd', foreign: false }],
  ['application/vnd.docker.image.rootfs.foreign.diff.tar', { compression: 'none', foreign: true }],
  ['application/vnd.docker.image.rootfs.foreign.diff.tar.gzip', { compression: 'gzip', foreign: true }],
] as const);

/** Undefined when the media type is not that of a filesystem layer. Parameters after `;` are ignored. */
export function layerType(mediaType: string): LayerType | undefined {
  return layerTypes.get(baseMediaType(mediaType));
}

export function isManifestType(mediaType: string): boolean {
  const base = baseMediaType(mediaType);
  return base === mediaTypes.imageManifest || base === mediaTypes.dockerManifest;
}

export function isIndexType(mediaType: string): boolean {
  const base = baseMediaType(mediaType);
  return base === mediaTypes.imageIndex || base === mediaTypes.dockerManifestList;
}

/** `type/subtype` in lower case, without parameters (RFC 9110 section 8.3.1). */
export function baseMediaType(mediaType: string): string {
  const semicolon = mediaType.indexOf(';');
  return (semicolon < 0 ? mediaType : mediaType.slice(0, semicolon)).trim().toLowerCase();
}
